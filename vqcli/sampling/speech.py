"""Speech from a prior over codes instead of a recording: what `vq sample` does with a model of speech.

samples = sample_speech("speech", speakers=["p225"], seconds=4, seed=1)      samples.sounds, samples.rate_hz

A prior knows sounds and their order, not words: what it says is babble in the voice of its speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from vqcli.codec import audio_file, conversion, voices, windows
from vqcli.codec.codes import AudioCodes, code_type
from vqcli.container import vqz
from vqcli.deprecation import renamed_keyword
from vqcli.errors import ModelError, UsageError, near_matches
from vqcli.files import numbered
from vqcli.media import audio, voice
from vqcli.media.audio import Recording
from vqcli.nets.priors.autoregressive import Sampling, in_batches
from vqcli.progress import ProgressCallback, Running, silent
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

PREFERRED = "speech"
PRIORS = ("wavenet", "uniform")
LARGEST = 1024  # samples at once
LONGEST_S = 3600.0  # of all samples together


@dataclass(frozen=True)
class SpeechSamples:
    """Sampled speech, speaker after speaker, `count` of each.

    audio     the codes of each, ready for a .vqz file
    sounds    float32 [N, samples] at rate_hz
    speakers  the voice of each, None for that of the recording it continues
    seed      equal seeds give equal samples on the same device; sample i does not depend on how many there are
    prior     what they were sampled from
    """

    audio: tuple[AudioCodes, ...]
    sounds: np.ndarray
    rate_hz: int
    speakers: tuple[str | None, ...]
    seed: int
    prior: str
    _model: LoadedModel = field(repr=False)

    @property
    def codes(self) -> np.ndarray:
        """uint16 [N, groups, T]."""
        return np.concatenate([each.codes for each in self.audio])

    def save(self, target: str | Path, *, force: bool = False) -> list[Path]:
        """Write each to a file of its own, of audio, or of codes where the suffix is .vqz; a target without a suffix is
        a folder. Returns the files."""
        paths = numbered(Path(target), [f"-{name}" if name else "" for name in self.speakers], ".wav", force)
        for index, (path, name) in enumerate(zip(paths, self.speakers, strict=True)):
            if path.suffix == ".vqz":
                metadata = {"drawn_from": self.prior, "seed": str(self.seed), "sample": str(index)}
                metadata |= {"speaker": name} if name else {}
                packed = audio_file.pack_audio(self._model, self.audio[index], metadata=metadata)
                vqz.write(path, *packed, force=force)
            else:
                audio.write(path, self.sounds[index : index + 1], self.rate_hz, force=force)
        return paths


def find_model() -> store.ModelInfo:
    """The model to sample from when none is named: the preferred one, else the first that has such a prior."""
    return priors.model_with("wavenet", "vq train wavenet --codec MODEL trains one", PREFERRED)


@renamed_keyword("report", "progress")
def sample_speech(
    model: str | LoadedModel = PREFERRED,
    *,
    prior: str = "wavenet",
    speakers: Sequence[str] = (),
    count: int = 1,
    seconds: float = 4.0,
    seed: int = 0,
    sampling: Sampling | None = None,
    start: Recording | None = None,
    **running: Unpack[Running],
) -> SpeechSamples:
    """Sample `count` times so many seconds of speech of each speaker, or of speakers at random if none is named.

    prior     'wavenet', or 'uniform': every code alike, what the paper trains its models under
    sampling  None for the temperature that the prior's file asks for
    start     a recording at the model's rate to go on from: its first channel comes first, in the voice of the speaker
              or, where none is named, in its own

    Raises ModelError if the model has no such prior, UnknownLabel, UsageError for what does not fit together.
    """
    if prior not in PRIORS:
        raise UsageError(f"no prior {prior} of speech", near_matches(prior, PRIORS))
    loaded = loading.load(model, running.get("device", "auto")) if isinstance(model, str) else model
    net, progress = loaded.audio, running.get("progress", silent)
    info = priors.find(loaded.info, prior) if prior != "uniform" else None
    if prior != "uniform" and info is None:
        raise ModelError(f"model {loaded.info.name} has no prior {prior}", "vq train wavenet --codec trains one")
    names = _names(loaded, info, speakers, count, seed, start is not None)
    if not 1 <= len(names) <= LARGEST or not 0 < len(names) * seconds <= LONGEST_S:
        raise UsageError(f"{len(names)} samples of {seconds:g} s are too many or too few to sample")
    sampling = sampling or priors.sampling(info)
    sampled = -(-max(1, round(seconds * net.rate_hz)) // net.stride)

    begun = _begun(loaded, names, start)
    before = begun[0].codes.shape[2]
    shape = (len(net.codebook_sizes), before + sampled)
    codes = np.zeros((len(names), *shape), np.int64)
    codes[:, :, :before] = [each.codes[0] for each in begun]
    uniforms = np.stack([np.random.default_rng([seed, index]).random(shape) for index in range(len(names))])
    kept = np.zeros(shape, bool)
    kept[:, :before] = True
    if info is None:
        uniform = (uniforms * np.array(net.codebook_sizes)[:, None]).astype(np.int64)
        codes = np.where(kept, codes, uniform)
    else:
        labels = np.array([info.label_of(name) for name in names if name]) if info.classes else np.zeros(0, int)
        codes = _by_wavenet(
            loaded, info, codes, np.broadcast_to(kept, codes.shape), uniforms, labels if labels.size else None,
            sampling, lambda share: progress(0.9 * share),
        )  # fmt: skip
    size = {"rate_hz": net.rate_hz, "samples": shape[1] * net.stride, "channels": 1}
    made = tuple(
        replace(each, codes=item[None].astype(code_type(net.codebook_sizes)), **size)
        for each, item in zip(begun, codes, strict=True)
    )
    sounds = []
    for index, item in enumerate(made):
        sounds.append(np.concatenate(list(windows.decode_audio(loaded, item, seed=seed + index)), axis=1)[0])
        progress(0.9 + 0.1 * (index + 1) / len(made))
    return SpeechSamples(made, np.stack(sounds), net.rate_hz, tuple(names), seed, prior, loaded)


def _names(
    model: LoadedModel, info: PriorInfo | None, wanted: Sequence[str], count: int, seed: int, going_on: bool
) -> list[str | None]:
    """Whose voice each sample has; None for that of the recording."""
    if wanted:
        return [voices.find(model.info, name).name for name in wanted for _ in range(count)]
    if going_on:
        return [None] * count
    known = [each.name for each in voices.speakers(model.info)]
    both = [name for name in known if info is None or not info.classes or info.number_of(name) >= 0]
    if not both:
        raise ModelError(f"the prior of {model.info.name} knows none of its speakers", "train the prior again")
    draw = np.random.default_rng([seed, LARGEST])
    return [both[int(draw.random() * len(both))] for _ in range(count)]


def _begun(model: LoadedModel, names: Sequence[str | None], start: Recording | None) -> list[AudioCodes]:
    """What each sample begins with: the codes of the recording, or none, in the voice that the sample has."""
    if start is None:
        nothing = np.zeros((1, len(model.net.codebook_sizes), 0), np.uint16)
        level = (voice.LEVEL_DB,)
        stored = {name: voices.voice_of(model, voices.find(model.info, name)) for name in names if name}
        return [AudioCodes(nothing, model.net.rate_hz, 0, 1, level, (stored[name],)) for name in names if name]
    if start.length_s > LONGEST_S:
        raise UsageError(f"a recording of {start.length_s:.0f} s is too long to go on from")
    source = windows.encode_audio(model, replace(start, samples=start.samples[:1]))
    levels = model.net.levels
    begun = {name: conversion.convert(source, name, model, levels=levels) if name else source for name in set(names)}
    return [begun[name] for name in names]


def _by_wavenet(
    model: LoadedModel,
    info: PriorInfo,
    codes: np.ndarray,
    kept: np.ndarray,
    uniforms: np.ndarray,
    labels: np.ndarray | None,
    sampling: Sampling,
    progress: ProgressCallback,
) -> np.ndarray:
    """Codes [N, groups, positions] by the WaveNet: compiled on a CPU, in torch elsewhere."""
    from vqcli.nets.priors import wavenet_numba as compiled
    from vqcli.nets.priors import wavenet_torch

    net = priors.load_wavenet(info, model.device)
    if tuple(net.codebook_sizes) != tuple(model.net.codebook_sizes):
        raise ModelError(f"{info.path} is a prior over other codes than those of {model.info.name}")
    if labels is None and net.labels and not net.unlabelled:
        raise UsageError("this prior has not learned to do without a speaker", "name one: --speaker")
    if sampling.guidance != 1 and (labels is None or not net.unlabelled):
        raise UsageError("guidance needs a speaker, and a prior that has learned to do without", "leave it out")
    on_cpu = model.device.type == "cpu"
    sampler = partial(compiled.sample, compiled.compile_net(net)) if on_cpu else partial(wavenet_torch.sample, net)
    return in_batches(sampler, codes, kept, uniforms, labels, sampling, progress)
