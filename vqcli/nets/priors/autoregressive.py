"""What all samplers of codes share: settings, checks of arguments, sampling of one code, and the state of sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import UsageError

BATCH = 16  # samples at once: more gain nothing on a CPU, and make progress coarse

# The largest uniform number whose product with the total of the probabilities stays below that total.
LARGEST_UNIFORM = 1 - 2.0**-52


class Autoregressive(Protocol):
    """The members of a prior that samplers use, code by code: a PixelCNN or a WaveNet over codes.

    GRID            names of the dimensions of codes after batch and groups
    codebook_sizes  K of each group
    offsets         where the rows of each group begin in `embedding`, and where the last ones end
    labels          number of labels, 0 for none
    unlabelled      whether it has learned to do without a label
    condition       channels of the map that conditions it, 0 for none
    """

    GRID: tuple[str, ...]
    codebook_sizes: list[int]
    offsets: list[int]
    labels: int
    unlabelled: bool
    condition: int
    embedding: nn.Embedding


@dataclass(frozen=True)
class Sampling:
    """How a code is sampled from its logits.

    temperature  logits are divided by it; 0 takes the most probable code
    top_k        only from the k most probable codes; 0 for all
    top_p        only from the fewest codes that together have this probability
    guidance     logits are moved away from those without the label (Ho and Salimans 2022): 1 leaves them as they
                 are; anything else needs a net that has learned to do without the label, and takes twice the time
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature {self.temperature:g} is not 0 or more", "1 samples as the model has learned")
        if self.top_k < 0:
            raise UsageError(f"top-k {self.top_k} is below 0", "0 samples from all codes")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p {self.top_p:g} is not within 0 and 1", "1 samples from all codes")
        if not abs(self.guidance) < float("inf"):
            raise UsageError(f"guidance {self.guidance:g} is not a number", "1 samples as the model has learned")


AS_LEARNED = Sampling()


def check_request(
    net: Autoregressive,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None,
    guidance: float,
    condition: np.ndarray | None = None,
) -> None:
    """Raise ValueError unless these are arguments of `sample`."""
    G, grid = len(net.codebook_sizes), ", ".join(net.GRID)
    dims = 2 + len(net.GRID)
    if codes.ndim != dims or codes.shape[1] != G or not codes.shape == keep.shape == uniforms.shape:
        raise ValueError(
            f"codes {codes.shape}, keep {keep.shape} and uniforms {uniforms.shape} are not [B, {G}, {grid}]"
        )
    sizes = np.array(net.codebook_sizes).reshape(-1, *(1,) * (dims - 2))
    if keep.dtype != bool or not np.all(~keep | (codes >= 0) & (codes < sizes)):
        raise ValueError("kept codes lie outside their codebooks")
    if not np.all((uniforms >= 0) & (uniforms < 1)):
        raise ValueError("uniforms lie outside 0 .. 1")
    B = len(codes)
    if label is None:
        if net.labels and not net.unlabelled:
            raise ValueError("this net needs a label")
    elif label.shape != (B,) or not np.all((label >= 0) & (label < net.labels)):
        raise ValueError(f"label is not [{B}] of 0 .. {net.labels - 1}")
    if (condition is not None) != (net.condition > 0):
        raise ValueError(f"this net takes {f'a map of {net.condition} channels' if net.condition else 'no map'}")
    if condition is not None and condition.shape != ((1 + (guidance != 1)) * B, net.condition, *codes.shape[2:]):
        raise ValueError(f"the map is {condition.shape}, not of {B} items on the grid, twice as many under guidance")
    if guidance != 1 and condition is None and (label is None or not net.unlabelled):
        raise ValueError("guidance needs a label, and a net that has learned to do without")


def in_batches(
    sampler: Callable[..., np.ndarray],
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None,
    sampling: Sampling,
    progress: Callable[[float], None],
    condition: np.ndarray | None = None,
) -> np.ndarray:
    """As `sample`, in batches of BATCH; `sampler` is `sample` with its net bound."""
    parts, count = [], len(codes)
    for first in range(0, count, BATCH):
        part = slice(first, first + BATCH)

        def done(share: float, first: int = first) -> None:
            progress((first + share * min(BATCH, count - first)) / count)

        labels = None if label is None else label[part]
        given = {} if condition is None else {"condition": part_of(condition, count, part)}
        parts.append(sampler(codes[part], keep[part], uniforms[part], labels, sampling, done, **given))
    return np.concatenate(parts)


def part_of(doubled: np.ndarray, count: int, part: slice) -> np.ndarray:
    """A part of the items, and under guidance of their copies without labels: doubled [count or 2 count, ...]."""
    times = len(doubled) // count
    return np.concatenate([doubled[n * count : (n + 1) * count][part] for n in range(times)])


def sample_codes(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """One code for each row: logits [B, K], uniforms [B] float64 in 0 .. 1 (excluded) -> [B] int64.

    The first code whose cumulated probability, in float64, exceeds the uniform number.
    """
    if sampling.temperature == 0:
        return logits.argmax(1)
    logits = logits.double() / sampling.temperature
    p = (logits - logits.amax(1, keepdim=True)).exp()
    if 0 < sampling.top_k < p.shape[1]:
        p = p.where(p >= p.topk(sampling.top_k).values[:, -1:], 0)
    if sampling.top_p < 1:
        ranked = p.sort(1, descending=True).values
        share = ranked.cumsum(1)
        last = (share < sampling.top_p * share[:, -1:]).sum(1, keepdim=True)
        p = p.where(p >= ranked.gather(1, last), 0)
    share = p.cumsum(1)
    mark = uniforms[:, None].clamp(max=LARGEST_UNIFORM) * share[:, -1:]
    return torch.searchsorted(share, mark, right=True)[:, 0]


class SamplingState:
    """The state of sampling, position by position, group by group, for the samplers in torch.

    The arguments are those of `sample`, checked; `recording` keeps all logits. A place is i, j on a grid, t in time.

    codes      int64 [B, G, *grid] on the device of the net, sampled so far
    labels     int64 [B]; under guidance [2 B], the second half without the label
    condition  the map float32 [B, S, *grid], under guidance [2 B, S, *grid]; None if the net takes none
    recorded   float32 [B, G, K, *grid], or of size 0
    """

    def __init__(
        self,
        net: Autoregressive,
        codes: np.ndarray,
        keep: np.ndarray,
        uniforms: np.ndarray,
        label: np.ndarray | None,
        sampling: Sampling,
        recording: bool = False,
        condition: np.ndarray | None = None,
    ) -> None:
        check_request(net, codes, keep, uniforms, label, sampling.guidance, condition)
        device = net.embedding.weight.device
        self.condition = None if condition is None else torch.tensor(condition, dtype=torch.float32, device=device)
        self.exact = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        self.codes = torch.tensor(codes, dtype=torch.int64, device=device)
        self.open = torch.tensor(~keep, device=device)
        self.some_open = np.any(~keep, axis=0)
        self.uniforms = torch.tensor(uniforms, dtype=torch.float64, device=self.exact)
        self.sampling, self.recording = sampling, recording
        self.times = 1 if sampling.guidance == 1 else 2
        (B, G, *grid), K = codes.shape, max(net.codebook_sizes)
        free = torch.full((B,), net.labels)
        labels = free if label is None else torch.tensor(label, dtype=torch.int64)
        self.labels = torch.cat([labels, free][: self.times]).to(device)
        self.offsets = torch.tensor(net.offsets[:-1], device=device)
        self.recorded = torch.full((B, G, K, *grid) if recording else (0,), -torch.inf)

    @classmethod
    def of_given(
        cls, net: Autoregressive, codes: np.ndarray, label: np.ndarray | None, condition: np.ndarray | None = None
    ) -> SamplingState:
        """For given codes, whose logits are recorded."""
        keep, uniforms = np.ones(codes.shape, bool), np.zeros(codes.shape)
        return cls(net, codes, keep, uniforms, label, AS_LEARNED, recording=True, condition=condition)

    def needs_logits(self, g: int, *place: int) -> bool:
        """Whether logits of group g at a place are used."""
        return self.recording or bool(self.some_open[g, *place])

    def sample_position(self, logits: Tensor, g: int, *place: int) -> None:
        """Sample the codes of group g at a place from logits [B, K], twice B under guidance."""
        at: tuple[slice | int, ...] = (slice(None), g, *place)
        logits = logits.float()
        if self.times == 2:
            given, free = logits.chunk(2)
            logits = free + self.sampling.guidance * (given - free)
        if self.recording:
            codes: tuple[slice | int, ...] = (slice(None), g, slice(logits.shape[1]), *place)
            self.recorded[codes] = logits
        code = sample_codes(logits.to(self.exact), self.uniforms[at], self.sampling).to(self.codes.device)
        self.codes[at] = torch.where(self.open[at], code, self.codes[at])

    def rows(self, *place: int) -> Tensor:
        """Rows of all groups' codes at a place in the net's table: [B, G], twice B under guidance."""
        at: tuple[slice | int, ...] = (slice(None), slice(None), *place)
        return (self.codes[at] + self.offsets).repeat(self.times, 1)
