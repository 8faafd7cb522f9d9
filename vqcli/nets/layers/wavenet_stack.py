"""The stack of a WaveNet: gated dilated causal convolutions (van den Oord et al. 2016, arXiv 1609.03499).

It is the trunk of the waveform decoder and of priors over codes. Inside, positions come before channels: the
convolutions have two taps, so each is a product of [past, present] by one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.gated import gate


class Layer(nn.Module):
    """One gated convolution with two taps, `dilation` positions apart (eq. 2): h [B, T, R] to gated [B, T, R]."""

    def __init__(self, residual: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = nn.Linear(2 * residual, 2 * residual)  # [past, present] -> [tanh's part, sigmoid's part]
        self.mix = None if last else nn.Linear(residual, residual)  # to the residual; the last layer has no successor

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """condition [B, T / stride, 2 R] is added to all positions of its step."""
        past = F.pad(h, (0, 0, self.dilation, 0))[:, : h.shape[1]]
        x = self.taps(torch.cat([past, h], 2))  # (B, T, 2 R)
        if condition is not None:
            steps = condition.shape[1]
            x = x.unflatten(1, (steps, -1)).add_(condition[:, :, None].to(x.dtype)).flatten(1, 2)
        return gate(x, 2)


class GatedStack(nn.Module):
    """Causal: the output at a position depends on the inputs at it and at `reach` positions before it.

    residual   R, channels from layer to layer
    skip       S, output channels
    dilations  one for each layer: its two taps lie so many positions apart
    local      L, channels of a condition at the rate of the positions or a lower one; 0 for none
    globals_   G, channels of a condition of all positions, as of a speaker; 0 for none
    """

    def __init__(self, residual: int, skip: int, dilations: Sequence[int], local: int = 0, globals_: int = 0) -> None:
        super().__init__()
        self.residual, self.skip, self.dilations = residual, skip, list(dilations)
        count = len(self.dilations)
        layers = [Layer(residual, dilation, n == count - 1) for n, dilation in enumerate(self.dilations)]
        self.layers: Sequence[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.to_skip = nn.Linear(count * residual, skip)  # one product of all gates, in place of a sum of many
        # what conditions add in the gates, for all layers at once
        self.from_local = nn.Linear(local, count * 2 * residual, bias=False) if local else None
        self.from_global = nn.Linear(globals_, count * 2 * residual, bias=False) if globals_ else None

    @property
    def reach(self) -> int:
        """Positions before its own that an output depends on."""
        return sum(self.dilations)

    def forward(self, h: Tensor, local: Tensor | None = None, global_: Tensor | None = None) -> Tensor:
        """Skips [B, S, T] of h [B, R, T], given local [B, L, T / stride] and global_ [B, G].

        The stride follows from the two lengths. Before the first position there are zeros.
        """
        h = h.transpose(1, 2)
        conditions = self.conditions(local, global_)
        gates = []
        for n, layer in enumerate(self.layers):
            gated = layer(h, None if conditions is None else conditions[:, :, n])
            gates.append(gated)
            if layer.mix is not None:
                h = h + layer.mix(gated)
        return self.to_skip(torch.cat(gates, 2)).transpose(1, 2)

    def conditions(self, local: Tensor | None, global_: Tensor | None) -> Tensor | None:
        """What both add in the gates: [B, T / stride or 1, layers, 2 R]."""
        if (local is None) != (self.from_local is None) or (global_ is None) != (self.from_global is None):
            raise ValueError("the conditions do not fit the arguments of this stack")
        parts = []
        if self.from_local is not None and local is not None:
            parts.append(self.from_local(local.transpose(1, 2)))
        if self.from_global is not None and global_ is not None:
            parts.append(self.from_global(global_)[:, None])
        return sum(parts).unflatten(2, (len(self.layers), -1)) if parts else None
