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
                    self._update(parameter, sides(parameter.grad).float(), group)
        return value

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            begin(state, gradient, 1 - second)
            return
        state["step"] += 1
        step = int(state["step"])
        turned = turn(gradient, state)
        mean, square = state["mean"].lerp_(turned, 1 - first), state["square"].lerp_(turned.square(), 1 - second)
        pace = group["lr"] * math.sqrt(1 - second**step) / (1 - first**step)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(turn(mean / (square.sqrt() + group["eps"]), state, back=True).view_as(parameter), alpha=pace)
        observe(state, gradient, 1 - second)
        if step % EVERY == 0:
            renew(state)


def sides(weight: Tensor) -> Tensor:
    """A weight with a dimension for each basis: the taps of a kernel are one, and dimensions of size 1 are left out."""
    taken = weight.flatten(2) if weight.ndim > 3 else weight
    return taken.reshape([size for size in taken.shape if size > 1] or [1])


def begin(state: dict[str, Any], gradient: Tensor, share: float) -> None:
    state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    for side, size in enumerate(gradient.shape):
        if gradient.ndim > 1 and SMALLEST <= size <= LARGEST:
            state[f"covariance_{side}"] = gradient.new_zeros(size, size)
    observe(state, gradient, share)
    for side in range(gradient.ndim):
        if (covariance := state.get(f"covariance_{side}")) is not None:
            exact = covariance.double() / covariance.trace().clamp_min(1e-30)  # float32 may fail to converge
            state[f"basis_{side}"] = torch.linalg.eigh(exact).eigenvectors.flip(1).to(covariance).contiguous()


def turn(x: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """A weight's tensor in its bases, or from them back to the weight."""
    for side in range(x.ndim):  # each takes the first dimension and leaves it as the last
        basis = state.get(f"basis_{side}")
        x = x.movedim(0, -1) if basis is None else torch.tensordot(x, basis, ([0], [int(back)]))
    return x


def observe(state: dict[str, Any], gradient: Tensor, share: float) -> None:
    """Let the covariances follow a gradient."""
    for side in range(gradient.ndim):
        if (covariance := state.get(f"covariance_{side}")) is not None:
            rows = gradient.movedim(side, 0).flatten(1)
            covariance.lerp_(rows @ rows.T, share)


def renew(state: dict[str, Any]) -> None:
    """Bases by one power iteration and a QR decomposition, in the order of their eigenvalues; the means turn along."""
    mean = turn(state["mean"], state, back=True)
    for side in range(mean.ndim):
        if (covariance := state.get(f"covariance_{side}")) is None:
            continue
        basis = state[f"basis_{side}"]
        product = covariance @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(side, order)
        state[f"basis_{side}"] = torch.linalg.qr(product[:, order]).Q
    state["mean"] = turn(mean, state)
