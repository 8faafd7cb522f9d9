"""The end of a run on clips: the net becomes a model folder, measured, with its speakers and counts of its codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from vqcli.codec import audio_file, windows
from vqcli.codec.codes import keep_levels
from vqcli.data.speech import FULL_SCALE, RATE_HZ, Speaker, Utterances
from vqcli.entropy import statistics
from vqcli.evaluation.speech import metrics, spectrograms
from vqcli.files import replacing
from vqcli.media import image
from vqcli.media.audio import Recording
from vqcli.training.budget import Budget
from vqcli.training.datasets.code_clips import codes_of
from vqcli.training.export import card_speech
from vqcli.training.export.finished import Finished
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

SAMPLES = 400  # clips whose codes are counted ...
LEAST = 12  # ... and so many however short the time is
COUNTING_SHARE = 0.5  # of the time that is left; the rest is for measuring
MEASURED = 12  # held-out clips
LONGEST_S = 6.0  # of a clip that is measured: a WaveNet takes its time


def export(
    finished: Finished[Utterances],
    net: nn.Module,
    arguments: dict[str, Any],
    groups: list[str],
    speakers: list[Speaker],
    facts: dict[str, Any] | None = None,
) -> store.ModelInfo:
    """Write the model file, with figures of held-out clips in it, a picture of one of them and the card beside it.

    `groups` are the names of the groups of codes; `facts` join the description, also in place of others.
    """
    folder, budget = finished.folder, finished.budget
    told = [dataclasses.asdict(each) for each in speakers]
    description = finished.description | {"arguments": arguments, "groups": groups, "speakers": told} | (facts or {})
    # the codes to be counted come from the weights as they are shipped, in float16
    info = loading.save(folder, net, None, description)
    model = loading.load(info, "cpu")
    samples = budget.part(COUNTING_SHARE).limit(sample_codes(model, finished.dataset), LEAST)
    counted = statistics.fit(samples, model.net.codebook_sizes)
    info = loading.save(folder, net, counted, description)
    if finished.held_out is not None:
        measured, sounds = measure(loading.load(info, "cpu"), finished.held_out, budget)
        with replacing(folder / card_speech.PICTURE, force=True) as stream:
            stream.write(image.encode_bytes(spectrograms.stacked(list(sounds.items())), "webp", quality=90))
        info = loading.save(folder, net, counted, description | {"measured": measured})
    card_speech.write(folder, info.description)
    return info


def sample_codes(model: LoadedModel, clips: Utterances) -> Iterator[np.ndarray]:
    """Codes [groups, 1, T] of some clips, as coders see one channel."""
    for index in range(0, len(clips), max(1, len(clips) // SAMPLES)):
        clip = clips.utterance(index)
        if clip is not None:
            yield codes_of(model, clip)[:, None].astype(np.int32)


def measure(model: LoadedModel, held_out: Utterances, budget: Budget) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Means over held-out clips for each number of levels, and the sounds of one of the clips by title."""
    levels = model.net.levels
    rows: dict[int, list[tuple[float, float, float]]] = {level: [] for level in range(1, levels + 1)}
    shown: dict[str, np.ndarray] = {}
    chosen = [index for index in range(len(held_out)) if held_out.utterance(index)][:MEASURED]
    for index in budget.limit(chosen):
        recording = recording_of(held_out, index, LONGEST_S)
        assert recording is not None
        source = recording.samples[0]
        codes = windows.encode_audio(model, recording)
        sounds = {"source": source}
        for level in rows:
            kept = keep_levels(model, codes, level)
            made = np.concatenate([block[0] for block in windows.decode_audio(model, kept)])[: len(source)]
            size = audio_file.file_size(model, kept)
            near = metrics.log_mel_correlation(source, made)
            rows[level].append((metrics.kbit_per_s(size, len(source)), near, metrics.log_mel_distance(source, made)))
            sounds[f"{level} of {levels} levels" if levels > 1 else "decoded"] = made
        shown = shown or sounds
    return {
        "on": f"{len(rows[1])} held-out clips",
        "points": [_point(level, np.mean(points, 0)) for level, points in rows.items()],
    }, shown


def _point(level: int, means: np.ndarray) -> dict[str, float]:
    rate, near, distance = means.round(3).tolist()
    return {"levels": level, "kbit_per_s": rate, "log_mel_correlation": near, "log_mel_distance_db": distance}


def recording_of(clips: Utterances, index: int, longest_s: float = 60.0) -> Recording | None:
    """A clip as a recording; None if it could not be used."""
    clip = clips.utterance(index)
    if clip is None:
        return None
    samples = clip.samples[: round(longest_s * RATE_HZ)].astype(np.float32)[None] / FULL_SCALE
    return Recording(samples, RATE_HZ, RATE_HZ, samples.shape[1], 1)
