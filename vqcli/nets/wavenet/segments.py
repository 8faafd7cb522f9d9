"""Latents -> sound of any length through a WaveNet: segments drawn side by side, joined where they agree most.

A sample waits for the one before it, so a batch is made of different stretches of time. Each segment but the first
begins early, from silence, and what it draws there is thrown away. The random numbers belong to the places of the
recording, not to the segment: as soon as a segment has forgotten how it began, it often draws the very samples that
its neighbour draws, and the seam is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcli.nets.layers import mulaw
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet import decoder_torch
from vqcli.nets.wavenet.decoder import WaveNetDecoder
from vqcli.nets.wavenet.decoder_numba import Packed

FADE = 64  # samples over which one segment gives way to the next


class Latents(Protocol):
    """What is read of latents [D, count]: a tensor, or anything that has this shape and gives tensors when sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor: ...


def generate_long(
    net: Packed | WaveNetDecoder,
    z_q: Latents,
    speaker: int,
    seed: int,
    *,
    part: tuple[int, int] | None = None,
    rate_hz: int = 16_000,
    segment_s: float = 4.0,
    warmup_s: float = 0.3,
    overlap_s: float = 0.05,
    batch: int = 8,
    temperature: float = 1.0,
    report: Callable[[float], None] | None = None,
) -> Iterator[np.ndarray]:
    """Samples float32 -1 .. 1 of latents z_q [D, count], segment after segment, stride for each latent.

    net        compiled for a CPU, or the net itself, whose device then does the work
    speaker    row of the speaker table
    seed       equal ones give equal samples, as long as the other arguments are equal too
    part       the latents begin .. end - 1 whose samples are wanted; None for all
    segment_s  of at most this length; no more than `batch` are drawn at once, which bounds the memory
    warmup_s   drawn before each segment and thrown away
    overlap_s  drawn after each segment, to find the best place for the seam
    report     is told the share that is done, 0 .. 1
    """
    decoder, generate = (net.net, compiled.generate) if isinstance(net, Packed) else (net, decoder_torch.generate)
    stride, count = decoder.stride, z_q.shape[1]
    wanted = part or (0, count)
    if not 0 <= wanted[0] <= wanted[1] <= count:
        raise ValueError(f"latents {wanted[0]} to {wanted[1]} are not among 0 to {count}")

    def steps(length_s: float) -> int:
        return max(1, round(length_s * rate_hz / stride))

    spans = _spans(*wanted, steps(segment_s))
    warmup, overlap = steps(warmup_s), steps(overlap_s)
    # Windows of one length, as a batch needs them: those at the ends of the recording are moved inwards.
    length = min(count, max((end - begin for begin, end in spans), default=0) + warmup + overlap)
    before = np.zeros(0, np.float32)  # what the segment before drew beyond its end
    for first in range(0, len(spans), batch):
        some = spans[first : first + batch]
        begins = [min(max(0, begin - warmup), count - length) for begin, _ in some]
        local = torch.cat([_local(decoder, z_q, begin, begin + length) for begin in begins])
        numbers = np.stack([uniforms(seed, begin * stride, (begin + length) * stride) for begin in begins])
        done = _within(report, first / len(spans), len(some) / len(spans))
        speakers = torch.full((len(some),), speaker)
        codes = generate(net, local, speakers, numbers, temperature=temperature, report=done)  # type: ignore[arg-type]
        for row, start, (begin, end) in zip(codes, begins, some, strict=True):
            drawn = mulaw.expand(row[(begin - start) * stride :])
            size = (end - begin) * stride
            drawn[: len(before)] = join(before, drawn[: len(before)])
            before = drawn[size : size + overlap * stride].copy()
            yield drawn[:size]


def uniforms(seed: int, begin: int, end: int) -> np.ndarray:
    """The random numbers of samples begin .. end - 1: float64 in 0 .. 1 (excluded), whatever is asked beside them."""
    a_time = 4  # numbers come from the generator's counter by so many
    generator = np.random.Philox(key=seed)
    generator.advance(begin // a_time)
    return np.random.Generator(generator).random(end - begin + begin % a_time)[begin % a_time :]


def join(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """From one drawing to another of the same stretch, both float32 [N], where they differ least over a fade."""
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


def _within(report: Callable[[float], None] | None, done: float, share: float) -> Callable[[float], None] | None:
    return report and (lambda part: report(done + share * part))
