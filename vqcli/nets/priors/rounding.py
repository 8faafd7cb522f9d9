"""A trained entropy model rounded to integers, for entropy coding.

Each output of a layer gets about the largest power of two that leaves its weights within 16 bits and its sums below
2^24 (entropy/integer_layers.py). The cost of rounding in bits is measured at export.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from vqcli.entropy import prior2d_net
from vqcli.entropy.integer_layers import LIMIT, Dense, Stencil
from vqcli.entropy.prior1d_net import SequenceNet, SequencePart
from vqcli.entropy.prior2d_net import Net, ScalarPart, ScalarTables, VectorPart
from vqcli.entropy.prior2d_parts import LOGIT, OCTAVE, SCALE, SHAPE, SHARE
from vqcli.nets.priors import exact
from vqcli.nets.priors.exact import ExactPrior, ScalarSlice, VectorSlice
from vqcli.nets.priors.exact1d import SequenceGroup, SequencePrior

FEATURE = 32  # steps of a doubling of 1 + |v|
ACTIVATION = prior2d_net.CEILING / exact.CEILING  # steps of 1
MEAN = 256  # steps of 1
SHIFT = 64  # steps of a scale
ENERGY = 1024  # steps of 1
STRETCH = OCTAVE / math.log(2)  # steps of 1
LARGEST_FREQUENCY = 1 << 20  # of vector codes


def rounded(net: ExactPrior) -> Net:
    """The integers of a net. Raises ValueError if its weights are too large for that."""
    sizes = net.codebook_sizes
    half = max(sizes) // 2
    tables = _scalar_tables(half) if net.qualities else _logit_frequencies(max(sizes))
    parts: list[ScalarPart | VectorPart] = []
    for part in net.slices:
        if isinstance(part, ScalarSlice):
            assert isinstance(tables, ScalarTables)
            parts.append(_scalar_part(part, int(tables.features.max()), min(exact.LARGEST_VALUE, half)))
        else:
            assert isinstance(part, VectorSlice)
            parts.append(_vector_part(part))
    integer_net = Net(sizes, net.groups, net.levels, net.qualities, tuple(parts), tables)
    integer_net.check()
    return integer_net


def rounded_sequence(net: SequencePrior) -> SequenceNet:
    """The integers of a net for codes in time. Raises ValueError if its weights are too large for that."""
    sizes = net.codebook_sizes
    parts = tuple(_sequence_part(part) for part in net.groups)
    integer_net = SequenceNet(sizes, net.past, net.around, net.earlier, parts, _logit_frequencies(max(sizes)))
    integer_net.check()
    return integer_net


def _sequence_part(part: SequenceGroup) -> SequencePart:
    tables, steps = _whole_tables(part.tables)
    channels = tables[0].shape[1]
    # inputs are in steps of their table, which are folded into the weights
    step_of = dict(zip(part.seen, steps, strict=True))
    unit = np.repeat([step_of[group] for group, _ in part.places] + steps, channels)
    first = _numbers(part.first.weight) * unit
    return SequencePart(
        tables,
        _dense([first], [part.first.bias], ACTIVATION, 1, 128),
        _dense([part.hidden.weight], [part.hidden.bias], ACTIVATION),
        _dense([part.out.weight], [part.out.bias], LOGIT / math.log(2)),
    )


def _scalar_part(part: ScalarSlice, feature: int, value: int) -> ScalarPart:
    phases, qualities = part.bias.shape[0], part.quality.shape[0]
    bias = _numbers(part.bias)[:, None] + _numbers(part.quality)  # (phases, qualities, hidden)
    mean = np.zeros((phases, qualities, part.groups))
    magnitudes = part.magnitude_weights
    return ScalarPart(
        _stencil(part.earlier, part.own, bias, 1 / FEATURE, feature, ACTIVATION),
        _dense([part.hidden.weight], [part.hidden.bias], ACTIVATION),
        _dense([part.out.weight], [part.out.bias], np.repeat([SHIFT, STRETCH], part.groups)),
        _stencil(part.earlier_mean, part.own_mean, mean, 1, value, MEAN),
        _stencil(
            magnitudes(part.earlier_energy), magnitudes(part.own_energy), _numbers(part.floors()), 1, value, ENERGY
        ),
    )


def _vector_part(part: VectorSlice) -> VectorPart:
    tables, steps = _whole_tables([part.embedding, *part.lent])
    # inputs are in steps of their table, which are folded into the weights
    channels = tables[0].shape[1]
    window = len(part.earlier) // max(1, channels * len(part.lent))
    earlier = _numbers(part.earlier) * np.tile(np.repeat(steps[1:], channels), window)[:, None]
    own = [_numbers(weight) * steps[0] for weight in part.own]
    return VectorPart(
        _stencil(earlier, own, _numbers(part.bias)[:, None], 1, 128, ACTIVATION),
        _dense([layer.weight for layer in part.hidden], [layer.bias for layer in part.hidden], ACTIVATION),
        _dense([part.out.weight], [part.out.bias], LOGIT / math.log(2)),
        tables[0],
        tables[1:],
    )


def _whole_tables(tables: Sequence[nn.Embedding]) -> tuple[tuple[np.ndarray, ...], list[float]]:
    """Embeddings as int8, and the step of each."""
    weights = [_numbers(table.weight) for table in tables]
    steps = [float(max(np.abs(weight).max(), 1e-9) / 127) for weight in weights]
    return tuple(np.round(weight / step).astype(np.int8) for weight, step in zip(weights, steps, strict=True)), steps


Weights = Tensor | np.ndarray


def _stencil(
    earlier: Weights, own: Sequence[Weights] | Tensor, bias: np.ndarray, step: float, largest: int, steps: float
) -> Stencil:
    """Inputs come in units of `step`, up to `largest` of them; outputs leave in `steps` for each 1."""
    first, *others = (_numbers(weight) * (step * steps) for weight in (earlier, *own))
    bias = bias * steps  # (phases, qualities, out)
    masses = [np.abs(weight).sum(0) * largest for weight in (first, *others)]
    inputs = len(first) + max((len(weight) for weight in others), default=0)
    most = np.max([np.abs(weight).max(0, initial=0) for weight in (first, *others)], axis=0)
    total = masses[0] + np.max([np.zeros(len(most)), *masses[1:]], axis=0) + np.abs(bias).max((0, 1))
    shift = _shift(total, most, inputs * largest)
    return Stencil(
        _whole(first, shift, np.int16),
        tuple(_whole(weight, shift, np.int16) for weight in others),
        _whole(bias + _half(shift), shift, np.int32),
        shift,
    )


def _dense(
    weights: Sequence[Weights],
    biases: Sequence[Tensor],
    steps: float | np.ndarray,
    inputs: float = ACTIVATION,
    largest: int = prior2d_net.CEILING,
) -> Dense:
    """Layers on activations, which come in `inputs` steps for each 1, up to `largest`; outputs leave in `steps` for
    each 1, for all of them or for each."""
    layers = []
    for weight, bias in zip(weights, biases, strict=True):
        w, b = _numbers(weight).T * (steps / inputs), _numbers(bias) * steps
        total = np.abs(w).sum(0) * largest + np.abs(b)
        shift = _shift(total, np.abs(w).max(0), len(w) * largest)
        layers.append((_whole(w, shift, np.int16), _whole(b + _half(shift), shift, np.int32), shift))
    return Dense(*(np.stack(arrays) for arrays in zip(*layers, strict=True)))


def _shift(total: np.ndarray, most: np.ndarray, slack: int) -> np.ndarray:
    """The largest shift [out] that is sound for sums up to `total` and weights up to `most`, both [out].

    Rounding adds half to each weight, so at most half of `slack`, the sum of all inputs, to a sum.
    """
    room = np.minimum((LIMIT - 2 - slack / 2) / (total + 0.5), (2**15 - 1) / np.maximum(most, 2.0**-15))
    shift = np.floor(np.log2(np.maximum(room, 2.0**-15)))
    if shift.min() < 0:
        raise ValueError("a weight is too large for integers")
    return np.minimum(shift, 24).astype(np.int8)


def _half(shift: np.ndarray) -> np.ndarray:
    """What makes rounding down round to the nearest."""
    return np.where(shift > 0, 0.5, 0.0)


def _whole(numbers: np.ndarray, shift: np.ndarray, kind: type[np.generic]) -> np.ndarray:
    return np.ascontiguousarray(np.round(np.ldexp(numbers, shift.astype(np.int32))), kind)


def _numbers(tensor: Weights) -> np.ndarray:
    return tensor.detach().cpu().double().numpy() if isinstance(tensor, Tensor) else tensor


def _scalar_tables(half: int) -> ScalarTables:
    """Tables for codebooks of up to 2 * half + 1 codes."""
    lowest, highest = (round(OCTAVE * math.log2(scale)) for scale in exact.SCALES)
    scales = np.exp2(np.arange(lowest, highest + 1) / OCTAVE)
    values = np.minimum(np.arange(prior2d_net.LARGEST_VALUE + 1), half)
    away = np.arange(24 * SHAPE) / SHAPE  # a logistic is negligible beyond 24 scales
    return ScalarTables(
        np.round(FEATURE * np.log2(1 + values)).astype(np.int16),
        np.ceil(np.exp2((np.arange(24 * OCTAVE) + 0.5) / OCTAVE)).astype(np.int32),
        np.array([lowest + round(OCTAVE * math.log2(ENERGY))], np.int32),
        np.round(SCALE * scales).astype(np.int32),
        np.round(SHARE / (1 + np.exp(away))).astype(np.int32),
    )


def _logit_frequencies(K: int) -> np.ndarray:
    """Frequencies by the difference of a logit from the largest, down to 1."""
    top = min(LARGEST_FREQUENCY, (2**32 - 1) // K, 2**30)
    differences = np.arange(math.ceil(LOGIT * math.log2(top)) + 1)
    return np.maximum(1, np.round(top * np.exp2(-differences / LOGIT))).astype(np.int32)
