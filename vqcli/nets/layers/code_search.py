"""Codes that gradient descent can move: numbers between them, which become codes as the search goes on.

A codec gives such a search for a window of its codes (`ImageCodec.search`); encoding with effort (codec/refinement.py)
moves `free` until bits and distortion are least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Place = tuple[slice, slice]  # rows and columns of a grid of codes
Coded = tuple[Tensor, Tensor]  # an image [1, C, H, W] and the bits [] of its codes
Lost = Callable[[Tensor], Tensor]  # an image [1, C, H, W] -> its distortion [], weighed against bits
Costs = Callable[[Tensor], Tensor]  # codes [G, h, w] -> bits of each code in their place, [G, h, w, K]

SHARPNESS = (2.0, 40.0)  # of rounding, at the first and the last step
SCALAR_PACE = 0.2  # learning rate of latents, for one step, in units of what is usual in their channel
VECTOR_PACE = 0.3  # learning rate of log-probabilities
NUDGE = 0.5  # of codes, by which curvature is measured
NEAR = 8  # codes that a latent may choose from
WARMTH = (1.0, 0.05)  # of the choice, at the first and the last step
RENEWALS = 4  # how often in a search bits are computed anew, as neighbours change
UNSEEN = 0.5  # how often a code is taken to occur that does not


class CodeSearch(Protocol):
    """The codes of a window, between which a search can move.

    free  what moves
    """

    free: Tensor

    def pace(self, steps: int) -> float:
        """The learning rate that suits a search of so many steps."""

    def soft(self, done: float, lost: Lost) -> Tensor:
        """The cost of the codes, with a gradient; `done` runs from 0 to 1, where they are codes all but exactly."""

    def hard(self, codes: Tensor) -> Coded:
        """What codes [G, rows, columns] of the window come to."""

    def found(self) -> Tensor:
        """The codes int64 [G, rows, columns] that are nearest now."""


class ScalarSearch:
    """Scalar codes by annealed soft rounding (Agustsson and Theis 2020) of the encoder's latents.

    A number between two codes is cheaper and better than both, so a search that takes it as it is ends among numbers
    that lose by rounding. As it goes on, bits come to be those of a draw between the two codes, and what the variance
    p (1 - p) of the draw adds to distortion, times half the curvature, is part of the cost.

    latents  [1, G, rows, columns] of the window, in units of codes
    values   [1, G, rows, columns] of a larger window: rounded latents, of which those at `place` may move
    limit    [G, 1, 1], of values to each side of 0
    coded    of values, and a share 0 .. 1 in which bits are those of a draw between codes: image and bits
    """

    def __init__(
        self,
        latents: Tensor,
        values: Tensor,
        place: Place,
        limit: Tensor,
        coded: Callable[[Tensor, float], Coded],
    ) -> None:
        # in a channel of small latents small steps decide
        self._unit = latents.square().mean((2, 3), keepdim=True).sqrt().clamp(1e-3, 1)
        self.free = (latents / self._unit).requires_grad_()
        self._values, self._place, self._limit, self._coded = values, (..., *place), limit, coded
        self._curvature: Tensor | None = None

    def pace(self, steps: int) -> float:
        return SCALAR_PACE / math.sqrt(steps)

    def soft(self, done: float, lost: Lost) -> Tensor:
        if self._curvature is None:
            self._curvature = self._measured_curvature(lost)
        low, high = SHARPNESS
        rounded = soft_round(self.free * self._unit, low * (high / low) ** done)
        image, bits = self._coded(self._with(rounded), done)
        share = rounded - rounded.detach().floor()
        return bits + lost(image) + done * (self._curvature / 2 * share * (1 - share)).sum()

    def hard(self, codes: Tensor) -> Coded:
        return self._coded(self._with((codes - self._limit)[None].float()), 0.0)

    def found(self) -> Tensor:
        rounded = (self.free.detach() * self._unit).round()
        return (torch.minimum(torch.maximum(rounded, -self._limit), self._limit) + self._limit)[0].long()

    def _measured_curvature(self, lost: Lost) -> Tensor:
        """Second derivative of distortion by a code of each channel, [1, G, 1, 1], on average.

        Of random signs s, s (gradient(v + s) - gradient(v - s)) / 2 has the diagonal of the Hessian for its mean
        (Hutchinson 1989). The signs are drawn from a fixed seed, for equal inputs are to give equal files.
        """
        middle = self._values[self._place]
        draw = torch.Generator().manual_seed(0)
        signs = (torch.randint(0, 2, middle.shape, generator=draw) * 2 - 1).to(middle)
        gradients = []
        for way in (NUDGE, -NUDGE):
            nudged = (middle + way * signs).requires_grad_()
            gradients.append(torch.autograd.grad(lost(self._coded(self._with(nudged), 0.0)[0]), nudged)[0])
        second = signs * (gradients[0] - gradients[1]) / (2 * NUDGE)
        return second.mean((2, 3), keepdim=True).clamp_min(0)

    def _with(self, moved: Tensor) -> Tensor:
        values = self._values.clone()
        values[self._place] = moved
        return values


class VectorSearch:
    """Codes of vectors: of the nearest of each latent one is chosen, softly at first.

    The encoder's choice is the nearest, but not the best: neighbours share what the decoder makes of them.

    z_e       [1, D, rows, columns] of the window
    codes     int64 [G, h, w] of a larger window, of which those at `place` may move
    codebook  [G, K, D / G]
    decode    images of embeddings [1, D, h, w] of the larger window
    costs     of codes among their neighbours; None: by their frequencies in the larger window
    """

    def __init__(
        self,
        z_e: Tensor,
        codes: Tensor,
        place: Place,
        codebook: Tensor,
        decode: Callable[[Tensor], Tensor],
        costs: Costs | None = None,
    ) -> None:
        groups, K, width = codebook.shape
        self._decode, self._codebook, self._place, self._codes = decode, codebook, (..., *place), codes
        self._costs = costs or (lambda codes: by_frequency(codes, K))
        rows = z_e[0].unflatten(0, (groups, width)).flatten(2).mT  # [G, N, d]
        distances, self._near = torch.cdist(rows, codebook).square().topk(min(NEAR, K), largest=False)
        self._vectors = torch.stack([book[near] for book, near in zip(codebook, self._near, strict=True)])
        nearest = distances[..., :1]
        self.free = ((nearest - distances) / nearest.mean().clamp_min(1e-12)).requires_grad_()  # [G, N, NEAR]
        self._renewals, self._bits = 0, torch.zeros_like(distances)

    def pace(self, steps: int) -> float:
        return VECTOR_PACE

    def soft(self, done: float, lost: Lost) -> Tensor:
        if done * RENEWALS >= self._renewals:
            self._renewals += 1
            self._bits = self._costs_of(self.found()).flatten(1, 2).gather(2, self._near)
        begin, end = WARMTH
        share = F.softmax(self.free / (begin * (end / begin) ** done), -1)
        moved = (share[..., None] * self._vectors).sum(2)  # [G, N, d]
        embedded = self._embedded(self._codes)
        embedded[self._place] = moved.mT.reshape(embedded[self._place].shape)
        return lost(self._decode(embedded)) + (share * self._bits).sum()

    def hard(self, codes: Tensor) -> Coded:
        image = self._decode(self._embedded(self._with(codes)))
        return image, self._costs_of(codes).gather(3, codes[..., None]).sum()

    def found(self) -> Tensor:
        near = self._near.gather(2, self.free.detach().argmax(2, keepdim=True))
        return near.view(self._codes[self._place].shape)

    def _costs_of(self, codes: Tensor) -> Tensor:
        """Bits of each code in the window, [G, rows, columns, K], with these codes in it."""
        return self._costs(self._with(codes))[:, *self._place[1:]]

    def _with(self, moved: Tensor) -> Tensor:
        codes = self._codes.clone()
        codes[self._place] = moved
        return codes

    def _embedded(self, codes: Tensor) -> Tensor:
        """[1, D, h, w] of codes [G, h, w]."""
        books = zip(self._codebook, codes, strict=True)
        return torch.cat([F.embedding(plane, book).movedim(-1, 0) for book, plane in books])[None]


def by_frequency(codes: Tensor, K: int) -> Tensor:
    """Bits of codes [G, h, w] by how often they occur: [G, h, w, K], equal in every place."""
    counts = torch.stack([torch.bincount(plane.flatten(), minlength=K) for plane in codes]) + UNSEEN
    bits = -(counts / counts.sum(1, keepdim=True)).log2()
    return bits[:, None, None].expand(*codes.shape, K)


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """x rounded, the more so the sharper: x itself for small ones, round(x) for large ones; exact at whole numbers."""
    middle = x.detach().floor() + 0.5
    scale = math.tanh(sharpness / 2)
    return middle + torch.tanh(sharpness * (x - middle)) / (2 * scale)
