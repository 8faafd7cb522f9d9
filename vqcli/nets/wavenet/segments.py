"""Latents -> waveform of any length through a WaveNet: segments sampled in parallel, joined where they agree most.

Sampling is sequential, so a batch consists of different stretches of time. Each segment but the first begins early,
from silence, and these samples are discarded. The random numbers depend on the position in the recording, not on the
segment: once a segment no longer depends on its start, it often has the very samples of its neighbour, and the seam
vanishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcli.nets.layers import mulaw
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet import decoder_torch
from vqcli.nets.wavenet.decoder import WaveNetDecoder
from vqcli.nets.wavenet.decoder_numba import CompiledNet

FADE = 64  # samples over which one segment gives way to the next


class Latents(Protocol):
    """Latents [D, count]: a tensor, or anything with this shape that gives tensors when sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor: ...


@dataclass(frozen=True)
class Segments:
    """How a long waveform is cut.

    length_s   largest length; at most `batch` segments are sampled at once, which bounds the memory
    warmup_s   sampled before each segment and discarded
    overlap_s  sampled after each segment, to find the best place for the seam
    """

    length_s: float = 4.0
    warmup_s: float = 0.3
    overlap_s: float = 0.05
    batch: int = 8


SEGMENTS = Segments()


def sample_long(
    net: CompiledNet | WaveNetDecoder,
    z_q: Latents,
    speaker: int,
    seed: int,
    *,
    part: tuple[int, int] | None = None,
    rate_hz: int = 16_000,
    segments: Segments = SEGMENTS,
    temperature: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Iterator[np.ndarray]:
    """Samples float32 -1 .. 1 of latents z_q [D, count], segment after segment, stride for each latent.

    net      compiled for a CPU, or the net itself, whose device then does the work
    speaker  row of the speaker table
    seed     equal ones give equal samples, as long as the other arguments are equal too
    part     sample only latents begin .. end - 1; None for all
    progress callback: the share that is done, 0 .. 1
    """
    decoder, sample = (net.net, compiled.sample) if isinstance(net, CompiledNet) else (net, decoder_torch.sample)
    stride, count = decoder.stride, z_q.shape[1]
    first_latent, end_latent = part or (0, count)
    if not 0 <= first_latent <= end_latent <= count:
        raise ValueError(f"latents {first_latent} to {end_latent} are not among 0 to {count}")

    def steps(length_s: float) -> int:
        return max(1, round(length_s * rate_hz / stride))

    spans = _spans(first_latent, end_latent, steps(segments.length_s))
    warmup, overlap = steps(segments.warmup_s), steps(segments.overlap_s)
    # Windows of one length, as a batch needs them: those at the ends of the recording are moved inwards.
    length = min(count, max((end - begin for begin, end in spans), default=0) + warmup + overlap)
    before = np.zeros(0, np.float32)  # the previous segment's samples beyond its end
    for first in range(0, len(spans), segments.batch):
        chosen = spans[first : first + segments.batch]
        begins = [min(max(0, begin - warmup), count - length) for begin, _ in chosen]
        local = torch.cat([_local(decoder, z_q, begin, begin + length) for begin in begins])
        numbers = np.stack([uniforms(seed, begin * stride, (begin + length) * stride) for begin in begins])
        done = _within(progress, first / len(spans), len(chosen) / len(spans))
        speakers = torch.full((len(chosen),), speaker)
        codes = sample(net, local, speakers, numbers, temperature=temperature, progress=done)  # type: ignore[arg-type]
        for row, start, (begin, end) in zip(codes, begins, chosen, strict=True):
            samples = mulaw.expand(row[(begin - start) * stride :])
            size = (end - begin) * stride
            samples[: len(before)] = join(before, samples[: len(before)])
            before = samples[size : size + overlap * stride].copy()
            yield samples[:size]


def uniforms(seed: int, begin: int, end: int) -> np.ndarray:
    """The random numbers of samples begin .. end - 1: float64 in 0 .. 1 (excluded), whatever the range."""
    per_count = 4  # numbers for each step of the generator's counter
    generator = np.random.Philox(key=seed)
    generator.advance(begin // per_count)
    return np.random.Generator(generator).random(end - begin + begin % per_count)[begin % per_count :]


def join(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Cross-fade from one sampling of a stretch to another, both float32 [N], where they differ least."""
    size = min(FADE, len(before))
    if size == 0:
        return after
    errors = np.convolve(np.square(before - after), np.ones(size), "valid")
    place = int(np.argmin(errors))
    fade = slice(place, place + size)
    share = np.square(np.sin(np.pi / 2 * (np.arange(size, dtype=np.float32) + 0.5) / size))  # of `after`
    between = before[fade] + share * (after[fade] - before[fade])
    return np.concatenate([before[:place], between, after[place + size :]])


def _spans(begin: int, end: int, longest: int) -> list[tuple[int, int]]:
    """begin .. end in spans about as long as each other."""
    count = -(-(end - begin) // longest)
    return list(pairwise(begin + (end - begin) * n // max(count, 1) for n in range(count + 1)))


@torch.no_grad()
def _local(net: WaveNetDecoder, z_q: Latents, begin: int, end: int) -> Tensor:
    """The local conditions [1, D, end - begin], as they are in the whole recording."""
    low, high = max(0, begin - net.MARGIN), min(z_q.shape[1], end + net.MARGIN)
    latents = z_q[:, low:high].to(net.embedding.weight)
    return net.context(latents[None])[:, :, begin - low : end - low]


def _within(progress: Callable[[float], None] | None, done: float, share: float) -> Callable[[float], None] | None:
    return progress and (lambda part: progress(done + share * part))
