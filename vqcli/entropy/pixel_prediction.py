"""Pixels given the decoded image: `predicted`, coder 0 of the lossless residual. Integers only.

The channels of each pixel in C order (green, red, blue: each helps to predict the next) are predicted as the decoded
value plus weights . inputs, and coded under a distribution around that prediction:

    inputs      residuals at known positions (NEAR, and for earlier channels ACROSS), and differences of the decoded
                image between a position and its neighbours (AROUND), for this and all earlier channels
    weights     two sets adapt by normalised least mean squares, one slow and one fast; their mean predicts
    energy      weighted mean of the errors at known positions, in steps of a quarter octave: a class of 44
    activity    of the decoded image at the position: one of 4
    scale       the mean error so far in the same channel, class and activity
    values      0 .. 255 under a mixture of a logistic and a Laplace distribution of that mean error

Predictions and errors are in 1/16 grey value. Adaptation starts anew with each chunk, from WEIGHTS (fitted by least
squares to photographs) and from scales given by the energy, so that small images cost little.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

import numpy as np

from vqcli.entropy import rangecoder
from vqcli.entropy.jit import compiled
from vqcli.errors import BadFile

ORDER = (1, 0, 2)  # of the channels of a colour image
NEAR = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2)])
ACROSS = np.array([(0, 0), (0, -1), (-1, 0), (-1, -1), (-1, 1)])
AROUND = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, 1), (1, 0)])
WEIGHTS = (  # in 1/1024, of the channels in their order
    (311, 264, -57, 16, 17, -1, 55, 0, 7, -8, -7, 1, -3),
    (742, 679, -497, 28, -18, -15, 5, 517, 675, -504, -163, 186, 28, 952, -713, -651, 484, -31, -507, -663, 496, 159,
     -182, -30),
    (682, 604, -361, 27, -28, -32, 7, 314, 530, -312, -230, 225, 8, 728, -478, -431, 246, -29, -304, -432, 288, 147,
     -154, -13, 180, -155, -128, 99, 3, -3, -88, 14, 81, -71, 7),
)  # fmt: skip
LEARNING = (9, 12)  # a slow and a fast set of weights: steps of 2^-7 and 2^-4 of the step that would undo the error

CLASSES, ACTIVITIES, SCALES = 44, 4, 88
QUARTERS = (64, 76, 91, 108)  # 64 * 2^(i/4)
EIGHTHS = (64, 70, 76, 83, 91, 99, 108, 117)  # 64 * 2^(i/8)
FARTHEST = 4096  # in 1/16 grey value: larger than any error
WHOLE, FLOOR = 1 << 24, 16  # of the cumulative tables; added to the frequency of each value
TOTAL = WHOLE + 256 * FLOOR
MEMORY = 200  # largest number of errors in the mean of a scale
PAD = 2  # reach of the inputs in pixels
UNKNOWN_ERROR = 32  # error outside the image


def encode(pixels: np.ndarray, decoded: np.ndarray) -> bytes:
    """Bytes of pixels given the decoded image: both uint8 [H, W, 1 or 3]."""
    values = _planes(pixels).copy()
    stream = np.zeros(values.size * 4 + 16, np.uint8)  # a value costs at most log2(TOTAL / FLOOR) = 20.1 bits
    length = _code(values, _planes(decoded), stream, False, _weights(), *_tables())
    return stream[:length].tobytes()


def decode(data: bytes, decoded: np.ndarray) -> np.ndarray:
    """Pixels uint8 [H, W, 1 or 3]. Raises BadFile if the bytes are not exactly those of so many."""
    values = np.zeros_like(_planes(decoded))
    stream = np.frombuffer(data, np.uint8).copy()  # a copy, as compiled code needs a writable array
    if _code(values, _planes(decoded), stream, True, _weights(), *_tables()) < 0:
        raise BadFile(f"{len(data)} bytes of pixels end too early or too late")
    return np.ascontiguousarray(_in_order(values).transpose(1, 2, 0))


def _planes(pixels: np.ndarray) -> np.ndarray:
    """[H, W, C] as [C, H, W], with the channels in coding order."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}")  # the compiled code checks no bounds
    return np.ascontiguousarray(_in_order(pixels.transpose(2, 0, 1)))


def _in_order(planes: np.ndarray) -> np.ndarray:
    """Its own inverse."""
    return planes[list(ORDER)] if len(planes) == 3 else planes


def _weights() -> np.ndarray:
    """Both sets at the start, int64 [2, 3, inputs] in 2^-20."""
    weights = np.zeros((2, 3, len(WEIGHTS[-1])), np.int64)
    for k, row in enumerate(WEIGHTS):
        weights[:, k, : len(row)] = np.array(row) << 10
    return weights


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Initial tables of every chunk, the same on every machine.

    means    int64 [CLASSES], four times the error in 1/16 grey value of an energy class
    classes  uint8 [16384], the class of four times an energy
    scales   uint8 [16384], the index of the scale of four times a mean error
    masses   uint32 [SCALES, FARTHEST], mass out of WHOLE up to that many sixteenths above the prediction
    """
    # the steps of both grids, in 1/4 of 1/16 grey value
    means = np.array([QUARTERS[k % 4] << k // 4 for k in range(CLASSES)]) // 8
    middles = np.array([EIGHTHS[k % 8] << k // 8 for k in range(SCALES)]) // 8
    at = np.arange(1 << 14)
    classes = (np.searchsorted(means, at, side="right") - 1).clip(0).astype(np.uint8)
    scales = (np.searchsorted(middles, at, side="right") - 1).clip(0).astype(np.uint8)
    with localcontext(prec=30):
        # exp(-1/16 grey value / scale) in 2^-31; a logistic of scale s has the mean error 2 ln 2 s
        narrow = [Decimal(-4) / middle for middle in middles.tolist()]
        ratios = [[int(ratio.exp() * 2**31), int((ratio * 2 * Decimal(2).ln()).exp() * 2**31)] for ratio in narrow]
    decays = np.full((SCALES, 2), 1 << 31, np.int64)
    masses = np.zeros((SCALES, FARTHEST), np.uint32)
    for far in range(FARTHEST):
        laplace = (1 << 24) - (decays[:, 0] >> 8)
        logistic = (1 << 55) // ((1 << 31) + decays[:, 1])
        masses[:, far] = (11 * laplace + 21 * logistic) >> 5
        decays = (decays * np.array(ratios)) >> 31
    return means, classes, scales, masses


@compiled
def _code(
    values: np.ndarray,
    decoded: np.ndarray,
    stream: np.ndarray,
    reading: bool,
    weights: np.ndarray,
    means: np.ndarray,
    classes: np.ndarray,
    scales: np.ndarray,
    masses: np.ndarray,
) -> int:
    """Write values [C, H, W] to the stream, or read them from it. The stream's length, or -1 if it ends elsewhere."""
    C, H, W = values.shape
    padded, residuals, errors = _padded(decoded)
    sums = np.empty((C, ACTIVITIES, CLASSES), np.int64)  # of errors in 1/16 grey value, and their number
    counts = np.full((C, ACTIVITIES, CLASSES), 8, np.int64)
    for k in range(CLASSES):
        sums[:, :, k] = 2 * means[k]
    inputs = np.zeros(weights.shape[2], np.int64)
    estimates = np.zeros(2, np.int64)
    state = rangecoder.new_state()
    if reading:
        rangecoder.open_stream(state, stream)
    for y in range(PAD, H + PAD):
        for x in range(PAD, W + PAD):
            for c in range(C):
                n = _gather(inputs, padded, residuals, c, y, x)
                power = np.int64(16)
                slow = fast = np.int64(0)
                for i in range(n):
                    slow += weights[0, c, i] * inputs[i]
                    fast += weights[1, c, i] * inputs[i]
                    power += inputs[i] * inputs[i]
                estimates[0], estimates[1] = slow, fast
                decoded_value = np.int64(padded[c, y, x])
                centre = _clipped(16 * decoded_value + ((slow + fast + (1 << 16)) >> 17), 0, 16 * 255)
                activity = _activity(padded, c, y, x)
                energy = classes[_energy(errors, c, y, x)]
                scale = scales[min(4 * sums[c, activity, energy] // counts[c, activity, energy], len(scales) - 1)]
                table = masses[scale]
                if reading:
                    target = rangecoder.peek(state, TOTAL)
                    low, high = 0, 255  # the last value whose interval begins at `target` or before
                    while low < high:
                        middle = (low + high + 1) >> 1
                        if _cumulative(table, middle, centre) <= target:
                            low = middle
                        else:
                            high = middle - 1
                    value = np.int64(low)
                else:
                    value = np.int64(values[c, y - PAD, x - PAD])
                before = _cumulative(table, value, centre)
                share = _cumulative(table, value + 1, centre) - before
                if reading:
                    if not rangecoder.advance(state, stream, before, share, TOTAL):
                        return -1
                    values[c, y - PAD, x - PAD] = value
                else:
                    rangecoder.put(state, stream, before, share, TOTAL)
                error = abs(16 * value - centre)
                errors[c, y, x] = error
                residuals[c, y, x] = value - decoded_value
                sums[c, activity, energy] += error
                counts[c, activity, energy] += 1
                if counts[c, activity, energy] > MEMORY:
                    sums[c, activity, energy] >>= 1
                    counts[c, activity, energy] >>= 1
                for j in range(2):
                    estimate = _clipped((estimates[j] + (1 << 15)) >> 16, -8192, 8192)
                    step = ((16 * (value - decoded_value) - estimate) << 26) // power
                    for i in range(n):
                        weights[j, c, i] += (step * inputs[i]) >> (26 - LEARNING[j])
    if reading:
        return len(stream) if rangecoder.at_end(state, stream) else -1
    return rangecoder.finish(state, stream)


@compiled
def _clipped(value: np.int64, low: int, high: int) -> np.int64:
    return np.int64(low) if value < low else np.int64(high) if value > high else value


@compiled
def _padded(decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decoded image with its border repeated, residuals, and errors, all int16 [C, PAD + H + PAD, ...]."""
    C, H, W = decoded.shape
    padded = np.empty((C, H + 2 * PAD, W + 2 * PAD), np.int16)
    for c in range(C):
        for y in range(H + 2 * PAD):
            for x in range(W + 2 * PAD):
                padded[c, y, x] = decoded[c, min(max(y - PAD, 0), H - 1), min(max(x - PAD, 0), W - 1)]
    return padded, np.zeros_like(padded), np.full_like(padded, UNKNOWN_ERROR)


@compiled
def _gather(inputs: np.ndarray, padded: np.ndarray, residuals: np.ndarray, c: int, y: int, x: int) -> int:
    """Fill in the inputs of a position, and return how many they are."""
    n = 0
    for other in range(-1, c):  # the channel itself, then those before it
        at = c if other < 0 else other
        near = NEAR if other < 0 else ACROSS
        for i in range(len(near)):
            inputs[n] = residuals[at, y + near[i, 0], x + near[i, 1]]
            n += 1
        for i in range(len(AROUND)):
            inputs[n] = np.int64(padded[at, y + AROUND[i, 0], x + AROUND[i, 1]]) - padded[at, y, x]
            n += 1
    return n


@compiled
def _activity(padded: np.ndarray, c: int, y: int, x: int) -> int:
    steps = abs(padded[c, y, x + 1] - padded[c, y, x - 1]) + abs(padded[c, y + 1, x] - padded[c, y - 1, x])
    return (steps >= 4) + (steps >= 12) + (steps >= 40)


@compiled
def _energy(errors: np.ndarray, c: int, y: int, x: int) -> int:
    """Four times the weighted mean of known errors."""
    total = np.int64(2) * errors[c, y, x - 1] + 2 * errors[c, y - 1, x] + errors[c, y - 1, x - 1]
    total += np.int64(errors[c, y - 1, x + 1]) + errors[c, y, x - 2] + errors[c, y - 2, x]
    weight = 8
    for other in range(c):
        total += (2 + (other == c - 1)) * errors[other, y, x]
        weight += 2 + (other == c - 1)
    return 4 * total // weight


@compiled
def _cumulative(table: np.ndarray, value: int, centre: int) -> np.int64:
    """The cumulative frequency below a value, out of TOTAL; the first value takes all below it, the last all above."""
    if value <= 0:
        return np.int64(0)
    if value > 255:
        return np.int64(TOTAL)
    edge = 16 * value - 8 - centre
    mass = np.int64(table[edge]) if edge >= 0 else WHOLE - np.int64(table[-edge])
    return mass + value * FLOOR
