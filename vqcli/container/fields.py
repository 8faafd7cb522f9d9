"""Building blocks of headers: a cursor over bytes, varints, checks of bounds."""

from __future__ import annotations

import struct

from vqcli.errors import BadFile

u32 = struct.Struct("<I").pack


class Reader:
    """A cursor over bytes, those of `what`; reading past the end is BadFile."""

    def __init__(self, data: bytes, what: str = "the header") -> None:
        self._rest, self._what = memoryview(data), what

    def __len__(self) -> int:
        return len(self._rest)

    def take(self, count: int) -> bytes:
        require(count <= len(self._rest), f"{self._what} ends before its last field")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return bytes(taken)

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        value = 0
        for shift in range(0, 42, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BadFile(f"a number in {self._what} is too long")


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def require(valid: bool, message: str) -> None:
    if not valid:
        raise BadFile(message)


def within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadFile(f"{name} {value} is not in {low}..{high}")
