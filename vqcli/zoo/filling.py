"""Nets of the weights in a file, that never take more memory than these: arguments of a header are anybody's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqcli.zoo import registry

FACTOR, SPARE = 4, 2**24  # numbers that a constructor may allocate: so many for each of the file, and so many more
LEAST = 2**10  # that any tensor counts for: modules take memory too
SHOWN = 3  # names in an error message
COUNTER = ".num_batches_tracked"  # of batch norms, which training alone reads: any will do


def filled(family: str, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """The net of a family with these weights.

    Raises ModelError for arguments that make none, or one larger than its weights; ValueError, in one line, for weights
    that are not its own.
    """
    # torch warns about tensors without numbers; the comparison below says what is wrong
    with (
        warnings.catch_warnings(action="ignore"),
        _Bounded(FACTOR * sum(tensor.numel() for tensor in tensors.values()) + SPARE),
    ):
        net = registry.build(family, arguments)
    own, there = _weights(net.state_dict()), _weights(tensors)
    wrong = [name for name in own if name not in there or own[name].shape != there[name].shape]
    wrong += [name for name in there if name not in own]
    if wrong:
        raise ValueError(", ".join(wrong[:SHOWN]) + f" and {len(wrong) - SHOWN} more" * (len(wrong) > SHOWN))
    net.load_state_dict(there)
    return net


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}


class _Bounded(TorchFunctionMode):
    """Within it, torch makes tensors of so many numbers in all, then raises ValueError before it makes the next.

    That bounds time too. Whole nets on the device "meta" would have no memory to bound, but what torch does with them
    takes it a second and a half to import; so does what stands in `_COUNTED`.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            count = _COUNTED.get(func, func)
            self.left -= max(LEAST, count(*args, **{**kwargs, "device": "meta"}).numel())
        elif func in _REPEATING:
            size = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
            self.left -= max(LEAST, torch.empty(tuple(size), device="meta").numel() * max(args[0].numel(), 1))
        if self.left < 0:
            raise ValueError("the net would be larger than its weights")
        return func(*args, **kwargs)


_FACTORIES = frozenset(
    (
        *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye, torch.empty_strided, torch.randperm),
        *(torch.rand, torch.randn, torch.randint, torch.normal, torch.arange, torch.linspace, torch.logspace),
        *(torch.hann_window, torch.hamming_window, torch.kaiser_window, torch.tril_indices, torch.triu_indices),
        *(torch.Tensor.new_empty, torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full),
    )
)


def _eye(n: int, m: int | None = None, **_: Any) -> Tensor:
    return torch.empty(n, n if m is None else m, device="meta")


def _points(start: float, end: float, steps: int, *_: Any, **__: Any) -> Tensor:
    return torch.empty(steps, device="meta")


def _arange(*bounds: float, start: float = 0, end: float = 0, step: float = 1, **_: Any) -> Tensor:
    if len(bounds) == 1:
        end = bounds[0]
    elif bounds:
        start, end, step = (*bounds, step)[:3]
    return torch.empty(max(0, math.ceil((end - start) / step)), device="meta")


def _window(window_length: int, *_: Any, **__: Any) -> Tensor:
    return torch.empty(window_length, device="meta")


# tensors as large as those of factories that torch would import its compiler for
_COUNTED: dict[Any, Any] = {torch.randn: torch.rand, torch.eye: _eye, torch.arange: _arange}
_COUNTED |= dict.fromkeys((torch.linspace, torch.logspace), _points)
_COUNTED |= dict.fromkeys((torch.hann_window, torch.hamming_window, torch.kaiser_window), _window)
_REPEATING = frozenset((torch.Tensor.repeat, torch.tile, torch.Tensor.tile))
