"""The CRC-32 of the concatenation of two byte strings, from that of each.

A CRC-32 is a polynomial over GF(2) modulo P of degree 32. To append n bytes is to multiply the
polynomial by x^(8 n), and the inversions at the start and end of every CRC-32 cancel out. In the integers here
the highest bit stands for x^0, as in zlib's.
"""

from __future__ import annotations

_P = 0xEDB88320  # x^32 is this, modulo P
_ONE, _BYTE = 1 << 31, 1 << 23  # x^0 and x^8


def combined(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of A + B, from those of A and of B and the length of B."""
    shift, power = _ONE, _BYTE
    while second_bytes:
        if second_bytes & 1:
            shift = _product(shift, power)
        power = _product(power, power)
        second_bytes >>= 1
    return _product(first, shift) ^ second


def _product(a: int, b: int) -> int:
    """a * b modulo P."""
    product = 0
    for bit in range(31, -1, -1):  # of a, from x^0 on, while b is multiplied by x each time
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_P if b & 1 else 0)
    return product
