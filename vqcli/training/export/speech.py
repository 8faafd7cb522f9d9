"""Export of a speech codec: model file with speakers and code statistics, measurements and card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from vqcli.codec import audio_file, windows
from vqcli.codec.codes import keep_levels
from vqcli.data.speech import Speaker, Utterances
from vqcli.entropy import statistics
from vqcli.evaluation.speech import metrics, spectrograms
from vqcli.files import replacing
from vqcli.media import image
from vqcli.media.audio import Recording
from vqcli.training.budget import Budget
from vqcli.training.datasets.code_clips import codes_of
from vqcli.training.export import card_speech
from vqcli.training.export.finished import FinishedRun
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

SAMPLES = 400  # clips whose codes are counted ...
LEAST = 12  # ... and so many however short the time is
COUNTING_SHARE = 0.5  # of the time that is left; the rest is for measuring
MEASURED = 12  # held-out clips
LONGEST_S = 6.0  # of a measured clip: a WaveNet decodes slowly


def export(
    finished: FinishedRun[Utterances],
    net: nn.Module,
    arguments: dict[str, Any],
    groups: list[str],
    speakers: list[Speaker],
    facts: dict[str, Any] | None = None,
) -> store.ModelInfo:
    """Write the model file with measurements on held-out clips, spectrograms of one of them, and the card.

    `groups` are the names of the codebooks; `facts` extend or replace entries of the description.
    """
    folder, budget = finished.folder, finished.budget
    table = [dataclasses.asdict(each) for each in speakers]
    description = finished.description | {"arguments": arguments, "groups": groups, "speakers": table} | (facts or {})
    # codes are counted with the weights as they are shipped, in float16
    info = loading.save(folder, net, None, description)
    model = loading.load(info, "cpu")
    samples = budget.part(COUNTING_SHARE).limit(sample_codes(model, finished.dataset), LEAST)
    fitted = statistics.fit(samples, model.net.codebook_sizes)
    info = loading.save(folder, net, fitted, description)
    if finished.held_out is not None:
        measured, waveforms = measure(loading.load(info, "cpu"), finished.held_out, budget)
        with replacing(folder / card_speech.IMAGE, force=True) as stream:
            stream.write(image.encode_bytes(spectrograms.stacked(list(waveforms.items())), "webp", quality=90))
        info = loading.save(folder, net, fitted, description | {"measured": measured})
    card_speech.write(folder, info.description)
    return info


def sample_codes(model: LoadedModel, clips: Utterances) -> Iterator[np.ndarray]:
    """Codes [n_codebooks, 1, T] of some clips, one channel as coders take it."""
    for index in range(0, len(clips), max(1, len(clips) // SAMPLES)):
        clip = clips.clip(index)
        if clip is not None:
            yield codes_of(model, clip)[:, None].astype(np.int32)


def measure(model: LoadedModel, held_out: Utterances, budget: Budget) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Means over held-out clips for each number of levels, and the waveforms of one of the clips by title."""
    levels = model.net.levels
    rows: dict[int, list[tuple[float, float, float]]] = {level: [] for level in range(1, levels + 1)}
    shown: dict[str, np.ndarray] = {}
    chosen = [index for index in range(len(held_out)) if held_out.clip(index)][:MEASURED]
    for index in budget.limit(chosen):
        recording = recording_of(held_out, index, LONGEST_S)
        assert recording is not None
        source = recording.samples[0]
        codes = windows.encode_audio(model, recording)
        waveforms = {"source": source}
        for level in rows:
            kept = keep_levels(model, codes, level)
            decoded = np.concatenate([block[0] for block in windows.decode_audio(model, kept)])[: len(source)]
            size = audio_file.file_size(model, kept)
            correlation = metrics.log_mel_correlation(source, decoded)
            rows[level].append(
                (metrics.kbit_per_s(size, len(source)), correlation, metrics.log_mel_distance(source, decoded))
            )
            waveforms[f"{level} of {levels} levels" if levels > 1 else "decoded"] = decoded
        shown = shown or waveforms
    return {
        "on": f"{len(rows[1])} held-out clips",
        "points": [_point(level, np.mean(points, 0)) for level, points in rows.items()],
    }, shown


def _point(level: int, means: np.ndarray) -> dict[str, float]:
    rate, correlation, distance = means.round(3).tolist()
    return {"levels": level, "kbit_per_s": rate, "log_mel_correlation": correlation, "log_mel_distance_db": distance}


def recording_of(clips: Utterances, index: int, longest_s: float = 60.0) -> Recording | None:
    """A clip as a recording; None if it could not be used."""
    clip = clips.clip(index)
    if clip is None:
        return None
    samples = clip.wave[None, : round(longest_s * clips.rate_hz)]
    return Recording(samples, clips.rate_hz, clips.rate_hz, samples.shape[1], 1)
