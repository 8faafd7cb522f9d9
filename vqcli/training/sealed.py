"""Safetensors files with a checksum, so that one flipped bit anywhere in them is noticed.

The metadata of the header hold `crc32`, the CRC-32 of the whole file with zeros in place of its eight hexadecimal
digits, and `sealed`, "1": a file that has either must have both. Files of earlier versions have neither; of them only
the layout can be checked.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
BLOCK_BYTES = 2**20
_ZEROS = b"0" * 8
_KEY = b'"crc32":"'  # quotes inside of values are escaped, so this is there once


def write(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and the values of `metadata`, each as JSON, with their checksum."""
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = memoryview(save(contiguous, {**texts, "sealed": "1", "crc32": _ZEROS.decode()}))
    length = 8 + int.from_bytes(data[:8], "little")
    at = bytes(data[:length]).index(_KEY) + len(_KEY)
    stream.write(data[:at])
    stream.write(b"%08x" % zlib.crc32(data))
    stream.write(data[at + len(_ZEROS) :])


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file. Raises ValueError that says what is wrong with it, or OSError."""
    metadata = verify(path)
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a dict


def verify(path: Path) -> dict[str, Any]:
    """The metadata of a file whose checksum, if it has one, and layout are right. Raises as `read` does."""
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(LARGEST_HEADER, os.fstat(stream.fileno()).st_size - 8):
            raise ValueError("it is cut off, or no safetensors file")
        header = stream.read(length)
        try:
            texts = json.loads(header).get("__metadata__", {})
            crc = texts.get("crc32")
            sealed = "sealed" in texts or crc is not None
            if sealed and crc != f"{_crc(start + header.replace(_KEY + crc.encode(), _KEY + _ZEROS), stream):08x}":
                raise ValueError("its checksum does not fit")
            with safe_open(path, "np"):  # which compares the layout with the size of the file
                pass
            return {name: json.loads(text) for name, text in texts.items() if name not in ("sealed", "crc32")}
        except (KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise ValueError(str(error)) from None


def _crc(front: bytes, stream: BinaryIO) -> int:
    crc = zlib.crc32(front)
    while block := stream.read(BLOCK_BYTES):
        crc = zlib.crc32(block, crc)
    return crc
