"""Safetensors files of tensors and JSON with a checksum of the whole (vqcli/container/checksums.py).

Files of earlier versions have none; of them only the layout can be checked.
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

from vqcli.container import checksums

LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
BLOCK_BYTES = 2**20


def write(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and the values of `metadata`, each as JSON, with their checksum."""
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = memoryview(save(contiguous, {**texts, **checksums.FIELDS}))
    end = 8 + int.from_bytes(data[:8], "little")
    stream.write(checksums.sealed(bytes(data[:end]), zlib.crc32(data)))
    stream.write(data[end:])


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
            unsealed = checksums.unsealed(start + header, texts)
            if unsealed is not None and unsealed[1] != _crc(unsealed[0], stream):
                raise ValueError("its checksum does not fit")
            with safe_open(path, "np"):  # which compares the layout with the size of the file
                pass
            return {name: json.loads(text) for name, text in texts.items() if name not in checksums.FIELDS}
        except (TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise ValueError(str(error)) from None


def _crc(front: bytes, stream: BinaryIO) -> int:
    crc = zlib.crc32(front)
    while block := stream.read(BLOCK_BYTES):
        crc = zlib.crc32(block, crc)
    return crc
