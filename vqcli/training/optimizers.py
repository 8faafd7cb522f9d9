"""What moves the weights of a run: AdamW, or SOAP, which is Adam in the eigenbasis of Shampoo's preconditioner.

A step of SOAP costs a few matrix products more for each weight, and takes a net of small layers as far as several steps
of Adam. Its state is tensors alone, so that a checkpoint holds it without pickling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vqcli.recipe import Optimization

SMALLEST, LARGEST = 4, 256  # sides of matrices that get a basis: beyond, its decomposition costs more than it gains
EVERY = 10  # steps between new bases
SIDES = ("rows", "columns")


def build(parameters: Iterable[nn.Parameter], options: Optimization) -> torch.optim.Optimizer:
    """The optimizer that a recipe asks for."""
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "soap":
        return Soap(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


class Soap(torch.optim.Optimizer):
    """SOAP (Vyas et al. 2024, arXiv 2409.11321, algorithm 3); weights of one dimension follow Adam.

    The first step only looks: it gives the first bases. Weight decay is decoupled, as in AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        value = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    self._update(parameter, as_matrix(parameter.grad).float(), group)
        return value

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            begin(state, gradient)
            return
        state["step"] += 1
        step, (first, second) = int(state["step"]), group["betas"]
        turned = turn(gradient, state)
        mean, square = state["mean"].lerp_(turned, 1 - first), state["square"].lerp_(turned.square(), 1 - second)
        pace = group["lr"] * math.sqrt(1 - second**step) / (1 - first**step)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(turn(mean / (square.sqrt() + group["eps"]), state, back=True).view_as(parameter), alpha=pace)
        observe(state, gradient, 1 - second)
        if step % EVERY == 0:
            renew(state)


def as_matrix(weight: Tensor) -> Tensor:
    """Kernels [out, in, ...] as [out, in ...], stacks of matrices [N, in, out] as [N in, out], vectors as a row."""
    if weight.ndim < 2:
        return weight.reshape(1, -1)
    return weight.flatten(1) if weight.ndim > 3 else weight.flatten(0, -2)


def begin(state: dict[str, Any], gradient: Tensor) -> None:
    state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    for side, size in zip(SIDES, gradient.shape, strict=True):
        if SMALLEST <= size <= LARGEST and min(gradient.shape) > 1:
            state[f"{side}_covariance"] = gradient.new_zeros(size, size)
    observe(state, gradient, 1.0)
    for side in SIDES:
        if (covariance := state.get(f"{side}_covariance")) is not None:
            exact = covariance.double() / covariance.trace().clamp_min(1e-30)  # float32 may fail to converge
            state[f"{side}_basis"] = torch.linalg.eigh(exact).eigenvectors.flip(1).to(covariance).contiguous()


def turn(matrix: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """A matrix in the bases, or from them back to the weights."""
    rows, columns = state.get("rows_basis"), state.get("columns_basis")
    if rows is not None:
        matrix = (rows if back else rows.T) @ matrix
    if columns is not None:
        matrix = matrix @ (columns.T if back else columns)
    return matrix


def observe(state: dict[str, Any], gradient: Tensor, share: float) -> None:
    """Let the covariances follow a gradient."""
    for side, matrix in zip(SIDES, (gradient, gradient.T), strict=True):
        if (covariance := state.get(f"{side}_covariance")) is not None:
            covariance.lerp_(matrix @ matrix.T, share)


def renew(state: dict[str, Any]) -> None:
    """Bases by one power iteration and a QR decomposition, in the order of their eigenvalues; the means turn along."""
    for dim, side in enumerate(SIDES):
        if (covariance := state.get(f"{side}_covariance")) is None:
            continue
        basis = state[f"{side}_basis"]
        product = covariance @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        new = torch.linalg.qr(product[:, order]).Q
        change = new.T @ basis
        state["mean"] = change @ state["mean"] if dim == 0 else state["mean"] @ change.T
        state["square"] = state["square"].index_select(dim, order)
        state[f"{side}_basis"] = new
