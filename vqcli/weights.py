"""Weights as files hold them: 16-bit floats, or where a recipe says so 8 bits a weight with a scale for each row."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

SCALE = ".scale"  # suffix of the tensor [rows] that belongs to one of 8 bits
LARGEST = 127


def packed(tensors: Mapping[str, Tensor], eight_bits: Collection[str] = ()) -> dict[str, Tensor]:
    """What is written; matrices whose names begin with one of `eight_bits` become integers, each row with its scale."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        weights = tensor.detach().cpu()
        if weights.dim() > 1 and weights.is_floating_point() and name.startswith(tuple(eight_bits)):
            rows = weights.float().flatten(1)
            # the scale as it is written, so that rounding goes by what reading multiplies with
            scale = (rows.abs().amax(1) / LARGEST).clamp(min=1e-6).half()
            whole = torch.round(rows / scale.float()[:, None]).clamp(-LARGEST, LARGEST)
            found[name] = whole.to(torch.int8).reshape(weights.shape).contiguous()
            found[name + SCALE] = scale
        else:
            found[name] = weights.half().contiguous()
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32. Raises ValueError if a tensor and its scale do not fit together."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        scale = tensors.get(name + SCALE)
        if scale is None:
            found[name] = tensor.float()
        elif tensor.dim() > 1 and scale.shape == tensor.shape[:1]:
            found[name] = tensor.float() * scale.float().reshape(-1, *(1,) * (tensor.dim() - 1))
        else:
            raise ValueError(f"the scale of {name} does not fit it")
    return found
