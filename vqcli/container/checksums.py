"""A checksum in the header of a safetensors file that covers the header too.

The metadata hold `crc32`, eight hexadecimal digits: the CRC-32 of what the kind of file has it cover, with zeros in
place of the digits; and `sealed`, "1", so that damage to the one name does not look like a file without a checksum.
"""

from __future__ import annotations

from collections.abc import Mapping

ZEROS = b"0" * 8
FIELDS = {"sealed": "1", "crc32": ZEROS.decode()}  # of the metadata, before the checksum is known
_KEY = b'"crc32":"'  # quotes inside of values are escaped, so this is there once


def sealed(header: bytes, crc: int) -> bytes:
    """A header that has FIELDS with its checksum in their place."""
    return header.replace(_KEY + ZEROS, _KEY + b"%08x" % crc, 1)


def unsealed(header: bytes, metadata: Mapping[str, str]) -> tuple[bytes, int] | None:
    """The header with zeros again, and the checksum; None of a file without one. Raises ValueError if half is there."""
    if not FIELDS.keys() & metadata.keys():
        return None
    digits = metadata.get("crc32", "")
    if "sealed" not in metadata or not digits or set(digits) - set("0123456789abcdef") or len(digits) != len(ZEROS):
        raise ValueError("its checksum is damaged")
    return header.replace(_KEY + digits.encode(), _KEY + ZEROS, 1), int(digits, 16)
