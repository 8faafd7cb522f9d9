"""The entropy model in floats: trained as it is here, then rounded to integers (rounding.py) for the coder `prior`.

Codes are coded stage by stage (entropy/prior2d_stages.py); small perceptrons predict all codes of a stage at once.
Scalar codes get a logistic distribution: its mean is a linear sum of known values, its scale a sum of known magnitudes,
as in the context coder with its four neighbours; a perceptron corrects both. Codes of a vector quantizer get a logit
each, from the embeddings of known codes.

Every step has an exact counterpart in integers: inputs are integers or rows of tables, activations are clipped to
0 .. CEILING, and there is neither normalisation nor division.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.entropy import prior2d_net, prior2d_stages
from vqcli.entropy.coders import EntropyNet

CEILING = 8.0  # of activations
LARGEST_VALUE = 255  # of scalar codes, counted from the middle: values beyond are clipped
SCALES = (2.0**-5, 2.0**7)  # of the logistic
ENERGY_PACE = 8.0  # learning rate factor of magnitude weights, which move over units, others over tenths


def activation(x: Tensor) -> Tensor:
    return F.hardtanh(x, 0.0, CEILING)


def signed_log(values: Tensor) -> Tensor:
    """sign(v) log2(1 + |v|) of values: small ones keep their differences, large ones stay small."""
    return values.sign() * torch.log2(1 + values.abs())


def around(
    x: Tensor, offsets: prior2d_stages.Offsets, spacing: int, lattice: prior2d_stages.Lattice, margin: int
) -> Tensor:
    """Neighbours of a lattice: x [B, H + 2 margin, W + 2 margin, C] -> [B * rows * columns, offsets * C]."""
    top, left, step = lattice
    H, W = x.shape[1] - 2 * margin, x.shape[2] - 2 * margin
    neighbours = [
        x[:, margin + top + y * spacing : margin + H + y * spacing : step][
            :, :, margin + left + z * spacing : margin + W + z * spacing : step
        ]
        for y, z in offsets
    ]
    return torch.cat(neighbours, -1).flatten(0, 2)


def at_lattice(x: Tensor, lattice: prior2d_stages.Lattice) -> Tensor:
    """x [B, H, W, C] at a lattice: [B * rows * columns, C]."""
    top, left, step = lattice
    return x[:, top::step, left::step].flatten(0, 2)


class ScalarSlice(nn.Module):
    """Mean and scale of the groups start .. start + groups - 1, from earlier groups and known positions of their own.

    mean  = sum of values + (perceptron) * scale
    scale = (floor + sum of magnitudes) * exp(perceptron)

    Features of a value are sign(v) log2(1 + |v|) and log2(1 + |v|).
    """

    def __init__(self, start: int, groups: int, levels: int, hidden: int, qualities: int) -> None:
        super().__init__()
        self.start, self.groups, self.phases = start, groups, prior2d_stages.phases(levels)
        self.margin = prior2d_stages.margin(levels)
        self.offsets = [prior2d_stages.taps(phase.kind, 2) for phase in self.phases]
        own, window = len(self.phases) - 1, len(prior2d_stages.WINDOW)
        known = 12 * groups
        # first layer, [taps x features, hidden] as the integers have it
        self.earlier = nn.Parameter(_uniform(window * 2 * start, hidden))
        self.own = nn.Parameter(torch.stack([_uniform(2 * known, hidden) for _ in range(own)]))
        self.bias = nn.Parameter(torch.zeros(own + 1, hidden))
        self.quality = nn.Parameter(torch.zeros(qualities, hidden))
        self.hidden, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, 2 * groups)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # sums of values and of magnitudes, which begin as the four nearest of the own group
        near = torch.arange(12)[:, None, None] < 4
        same = torch.eye(groups) > 0
        self.earlier_mean = nn.Parameter(torch.zeros(window * start, groups))
        self.earlier_energy = nn.Parameter(torch.full((window * start, groups), -6.0) / ENERGY_PACE)
        mean = torch.where(near & same, 0.2, 0.0).reshape(1, known, groups)
        energy = torch.where(near & same, -2.5, torch.where(same, -4.0, -6.0)).reshape(1, known, groups)
        self.own_mean = nn.Parameter(mean.repeat(own, 1, 1))
        self.own_energy = nn.Parameter(energy.repeat(own, 1, 1) / ENERGY_PACE)
        self.floor = nn.Parameter(torch.full((own + 1, qualities, groups), math.log(0.3) / ENERGY_PACE))

    def floors(self) -> Tensor:
        """Scale where all known values are 0, [phases, qualities, groups]."""
        return torch.exp(ENERGY_PACE * self.floor)

    @staticmethod
    def magnitude_weights(energy: Tensor) -> Tensor:
        return F.softplus(ENERGY_PACE * energy)

    def positions(self, height: int, width: int, items: int) -> list[int]:
        """How many positions of so many grids each lattice has, in the order of `forward`."""
        counts = [
            items * len(range(top, height, step)) * len(range(left, width, step))
            for phase in self.phases
            for top, left, step in phase.lattices
        ]
        return [count for count in counts if count]

    def forward(
        self, values: Tensor, features: Tensor, quality_weights: Tensor, coded: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, means and natural logarithms of scales, [N, groups] each, of all positions, phase by phase.

        values [B, H, W, G] and features [B, H, W, 2, G], float; quality_weights [B, qualities] interpolate. The values
        returned are those of `coded` [B, H, W, G] if it is given: `values` are then the context alone.
        """
        coded = values if coded is None else coded
        own = slice(self.start, self.start + self.groups)
        # cross-channel features, of earlier slices, do not depend on the phase: all positions at once
        cross = [torch.zeros((), device=values.device)] * 3
        if self.start:
            v, f = values[..., : self.start], features[..., : self.start].flatten(3)
            weights = self.earlier_mean, self.magnitude_weights(self.earlier_energy), self.earlier
            cross = [_window(x, w) for x, w in zip((v, v.abs(), f), weights, strict=True)]
        v = _pad(values[..., own], self.margin)
        f = _pad(features[..., own].flatten(3), self.margin)
        energies = self.magnitude_weights(self.own_energy)
        targets, means, scales, hidden = [], [], [], []
        for p, (phase, offsets) in enumerate(zip(self.phases, self.offsets, strict=True)):
            floor, quality = (
                quality_weights @ self.floors()[p],
                quality_weights @ self.quality + self.bias[p],
            )  # (B, groups), (B, hidden)
            for lattice in phase.lattices:
                target = coded[:, lattice[0] :: lattice[2], lattice[1] :: lattice[2], own]
                if target.numel() == 0:
                    continue
                each = target.shape[1] * target.shape[2]
                m, e, t = (at_lattice(x, lattice) if self.start else x for x in cross)
                e, t = e + floor.repeat_interleave(each, 0), t + quality.repeat_interleave(each, 0)
                if p:
                    near = around(v, offsets, phase.spacing, lattice, self.margin)
                    m, e = m + near @ self.own_mean[p - 1], e + near.abs() @ energies[p - 1]
                    t = t + around(f, offsets, phase.spacing, lattice, self.margin) @ self.own[p - 1]
                targets.append(target.flatten(0, 2))
                means.append(m + torch.zeros_like(e))
                scales.append(e)
                hidden.append(t)
        energy = torch.cat(scales)
        shift, stretch = self.out(activation(self.hidden(activation(torch.cat(hidden))))).chunk(2, 1)
        log_scale = (energy.log() + stretch).clamp(*map(math.log, SCALES))
        return torch.cat(targets), torch.cat(means) + shift * log_scale.exp().detach(), log_scale


class VectorSlice(nn.Module):
    """Logits of the codes of one group, from the embeddings of known codes."""

    def __init__(self, group: int, K: int, levels: int, hidden: int, embedding: int, earlier: Sequence[int]) -> None:
        super().__init__()
        self.group, self.K, self.phases = group, K, prior2d_stages.phases(levels)
        self.margin = prior2d_stages.margin(levels)
        self.offsets = [prior2d_stages.taps(phase.kind, 3) for phase in self.phases]
        # the last row of each table is for positions outside the grid
        self.embedding = nn.Embedding(K + 1, embedding)
        earlier_tables = [nn.Embedding(size + 1, embedding) for size in earlier]
        for table in (self.embedding, *earlier_tables):
            nn.init.normal_(table.weight, std=0.7)
        # `lent` is part of the names of weights: the embeddings of earlier groups
        self.lent: Sequence[nn.Embedding] = nn.ModuleList(earlier_tables)  # type: ignore[assignment]
        self.earlier = nn.Parameter(_uniform(len(prior2d_stages.WINDOW) * embedding * len(earlier), hidden))
        own = [_uniform(len(offsets) * embedding, hidden) for offsets in self.offsets]
        self.own = nn.ParameterList(own[1:])
        self.bias = nn.Parameter(torch.zeros(len(own), hidden))
        layers = [nn.Linear(hidden, hidden) for _ in own]
        self.hidden: Sequence[nn.Linear] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.out = nn.Linear(hidden, K)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [N] and logits [N, K] of all positions, phase by phase: codes [B, G, H, W]."""
        code = codes[:, self.group]
        cross = None
        if len(self.lent):
            embedded = [
                table(F.pad(codes[:, g], (1,) * 4, value=table.num_embeddings - 1)) for g, table in enumerate(self.lent)
            ]
            rows = around(torch.cat(embedded, -1), prior2d_stages.WINDOW, 1, (0, 0, 1), 1)
            cross = (rows @ self.earlier).view(*code.shape, -1)
        x = self.embedding(F.pad(code, (self.margin,) * 4, value=self.K))
        targets, hidden = [], []
        for p, (phase, offsets) in enumerate(zip(self.phases, self.offsets, strict=True)):
            parts = []
            for lattice in phase.lattices:
                target = code[:, lattice[0] :: lattice[2], lattice[1] :: lattice[2]]
                if target.numel() == 0:
                    continue
                t = self.bias[p].expand(target.numel(), -1)
                if cross is not None:
                    t = t + at_lattice(cross, lattice)
                if p:
                    t = t + around(x, offsets, phase.spacing, lattice, self.margin) @ self.own[p - 1]
                targets.append(target.flatten())
                parts.append(t)
            if parts:
                hidden.append(activation(self.hidden[p](activation(torch.cat(parts)))))
        return torch.cat(targets), self.out(torch.cat(hidden))


class ExactPrior(nn.Module):
    """An entropy model of the codes of one chunk.

    codebook_sizes  K of each group
    qualities       of the codec; 0 for codes of a vector quantizer, which have no order
    hidden          channels of the perceptrons, for each slice or for all
    slices          number of groups in each slice, which are coded together; None: a single group in each
    levels          halvings of the coarsest lattice, for each slice or for all
    embedding       channels for each known code of a vector quantizer
    """

    TASK = "prior2d"  # the training run of this family (training/tasks)
    BY_CLASS, BY_QUALITY, EXACT = False, True, True  # it takes labels or qualities; it becomes integers

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        qualities: int = 0,
        hidden: Sequence[int] | int = 128,
        slices: Sequence[int] | None = None,
        levels: Sequence[int] | int = 3,
        embedding: int = 24,
    ) -> None:
        super().__init__()
        self.codebook_sizes, self.qualities = tuple(codebook_sizes), qualities
        parts = prior2d_stages.slices(len(codebook_sizes), tuple(slices or (1,) * len(codebook_sizes)))
        depths = [levels] * len(parts) if isinstance(levels, int) else list(levels)
        widths = [hidden] * len(parts) if isinstance(hidden, int) else list(hidden)
        if not len(depths) == len(widths) == len(parts):
            raise ValueError(f"{len(depths)} levels and {len(widths)} widths for {len(parts)} slices")
        if not qualities and len(parts) != len(codebook_sizes):
            raise ValueError("codes of a vector quantizer are coded group by group")
        modules: list[nn.Module] = [
            ScalarSlice(part.start, len(part), depth, width, qualities)
            if qualities
            else VectorSlice(
                part.start, codebook_sizes[part.start], depth, width, embedding, codebook_sizes[: part.start]
            )
            for part, depth, width in zip(parts, depths, widths, strict=True)
        ]
        self.groups, self.levels = tuple(parts), tuple(depths)
        self.slices = nn.ModuleList(modules)

    @staticmethod
    def integer_net(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> EntropyNet:
        """The net in integers that files hold (`rounding.py` makes it). Raises ValueError for unsound arrays."""
        return prior2d_net.from_arrays(arrays, codebook_sizes)

    def loss(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """Bits for each code, on average: codes int64 [B, G, H, W], quality [B] from 1 for scalar codes."""
        with torch.autocast(codes.device.type, enabled=False):
            if not self.qualities:
                bits = [F.cross_entropy(logits, code, reduction="sum") for code, logits in self.logits(codes)]
            else:
                bits = [logistic_nats(*logistic).sum() for logistic in self.logistics(codes, quality)]
            total: Tensor = torch.stack(bits).sum() / (math.log(2) * codes.numel())
        return total

    def bits_per_code(self, codes: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
        """As `loss`, whatever the labels."""
        return self.loss(codes, quality)

    def logits(self, codes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Codes [N] and logits [N, K] of each group."""
        return [part(codes) for part in self.slices]

    def logistics(self, codes: Tensor, quality: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Values, means and logarithms of scales, [N, groups] each, of each slice."""
        assert quality is not None
        middles = torch.tensor(self.codebook_sizes, device=codes.device).sub(1).div(2, rounding_mode="floor")
        return self._logistics((codes.movedim(1, -1) - middles).float(), quality)

    def _logistics(
        self, values: Tensor, quality: Tensor, coded: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """As `logistics`, of values [B, H, W, G] counted from the middle of the codebook."""
        values = values.clamp(-LARGEST_VALUE, LARGEST_VALUE)
        features = torch.stack([signed_log(values), signed_log(values.abs())], 3)  # (B, H, W, 2, G)
        whole = torch.arange(1, self.qualities + 1, device=values.device)
        quality_weights = (1 - (quality[:, None] - whole).abs()).clamp_min(0)  # (B, qualities)
        return [part(values, features, quality_weights, coded) for part in self.slices]

    def bits(self, values: Tensor, quality: Tensor, coded: Tensor | None = None, drawn: float = 0.0) -> Tensor:
        """Bits of each item [B], with a gradient: values [B, G, H, W] counted from the middle of the codebook.

        With `coded` [B, G, H, W] the bits are those of that, real numbers, while `values` are the context. With
        `drawn` above 0, a number between two codes takes in that share (0 .. 1) what a draw between the two takes.
        """
        noisy = None if coded is None else coded.movedim(1, -1)
        items, _, height, width = values.shape
        total = torch.zeros(items, device=values.device)
        for part, (target, mean, log_scale) in zip(
            self.slices, self._logistics(values.movedim(1, -1), quality, noisy), strict=True
        ):
            nats = logistic_nats(target, mean, log_scale)
            if drawn:
                nats = nats.lerp(drawn_nats(target, mean, log_scale), drawn)
            assert isinstance(part, ScalarSlice)
            for rows in nats.sum(1).split(part.positions(height, width, items)):
                total = total + rows.view(items, -1).sum(1)
        return total / math.log(2)


def logistic_nats(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log of the share of a logistic that falls within half a unit of each value, with a gradient however far out."""
    inverse = torch.exp(-log_scale)
    upper, lower = (values - mean + 0.5) * inverse, (values - mean - 0.5) * inverse
    return -(F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-inverse)))


def drawn_nats(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """What `logistic_nats` is on average if a number becomes a code, of the two around it the nearer likelier."""
    below = values.detach().floor()
    low, high = (logistic_nats(code, mean, log_scale) for code in (below, below + 1))
    return low.lerp(high, values - below)


def _pad(x: Tensor, margin: int) -> Tensor:
    """[B, H, W, C] with a margin of zeros around the grid."""
    return F.pad(x, (0, 0, margin, margin, margin, margin))


def _window(x: Tensor, weight: Tensor) -> Tensor:
    """Sums over the window of 3 x 3: x [B, H, W, C], weight [9 C, out] -> [B, H, W, out]."""
    kernel = weight.view(3, 3, x.shape[-1], -1).permute(3, 2, 0, 1)
    return F.conv2d(x.movedim(-1, 1), kernel, padding=1).movedim(1, -1)


def _uniform(rows: int, columns: int) -> Tensor:
    """Weights as those of nn.Linear."""
    bound = max(1, rows) ** -0.5
    return torch.empty(rows, columns).uniform_(-bound, bound)


FAMILY = ExactPrior
