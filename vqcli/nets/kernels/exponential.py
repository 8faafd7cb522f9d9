"""e^x in float32 and float64, written so that loops over it are vectorised; math.exp is called number by number.

x = k ln(2) + r with a whole k and |r| <= ln(2) / 2. Then e^x = 2^k e^r: the first is an exponent alone, of the second
a few terms of the series suffice. Adding 1.5 * 2^(bits of the mantissa) rounds to a whole number, and leaves k in the
lowest bits. ln(2) comes in two parts, the first with so few bits that k times it is exact.
"""

from __future__ import annotations

import math

import numpy as np

from vqcli.nets.kernels.jit import compiled

_LOG2_E, _ROUND = 1 / math.log(2), 1.5 * 2**52
_LN2_HIGH = round(math.log(2) * 2**32) / 2**32
_LN2_LOW = -4.2009150726810846e-11
_TERMS = tuple(1 / math.factorial(n) for n in range(13))

_LOG2_E_32, _ROUND_32 = np.float32(_LOG2_E), np.float32(1.5 * 2**23)
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(355 / 512), np.float32(-2.1219444005469057e-4)
_TERMS_32 = tuple(np.float32(term) for term in _TERMS[:7])


@compiled
def exp32(x: np.float32) -> np.float32:
    """e^x for float32 x within -87 .. 87, to a relative error of 3e-7."""
    shifted = x * _LOG2_E_32 + _ROUND_32
    k = shifted - _ROUND_32
    r = (x - k * _LN2_HIGH_32) - k * _LN2_LOW_32
    t0, t1, t2, t3, t4, t5, t6 = _TERMS_32
    series = t0 + r * (t1 + r * (t2 + r * (t3 + r * (t4 + r * (t5 + r * t6)))))
    power = ((np.float32(shifted).view(np.int32) + 127) << 23) & 0x7F800000
    return series * np.int32(power).view(np.float32)


@compiled
def exp64(x: np.float64) -> np.float64:
    """e^x for float64 x within -700 .. 700, to a relative error of 1e-15."""
    shifted = x * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12 = _TERMS
    series = t6 + r * (t7 + r * (t8 + r * (t9 + r * (t10 + r * (t11 + r * t12)))))
    series = t0 + r * (t1 + r * (t2 + r * (t3 + r * (t4 + r * (t5 + r * series)))))
    power = ((np.float64(shifted).view(np.int64) + 1023) << 52) & 0x7FF0000000000000
    return series * np.int64(power).view(np.float64)
