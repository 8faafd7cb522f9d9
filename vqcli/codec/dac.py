"""Files of descript-audio-codec, .dac: read without running the pickle in them, and written, codes unchanged.

A .npy of one Python object, {"codes": uint16 [channels, codebooks, positions], "metadata": {...}}, pickled. Beside the
sizes of the recording the metadata have

    input_db      float32 [1] or [channels], the loudness by ITU-R BS.1770 that the decoder brings each channel to
    padding       whether the codes are those of the whole recording, or, as they mostly are, of overlapping windows of
    chunk_length  positions each, which decode one by one without padding, to waveforms that follow one another

Nothing in a file says of which model it is. Kumar et al. 2023, https://arxiv.org/abs/2306.06546, section A.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqcli import pickles
from vqcli.errors import BadFile, UsageError
from vqcli.pickles import Made, Name

VERSION = "1.0.0"
HEADER = re.compile(rb"\{'descr': '\|O', 'fortran_order': False, 'shape': \(\), \} *\n")
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # of older and newer numpy
DTYPES = ("u2", "f4")
MOST_CHANNELS, MOST_CODEBOOKS, MOST_SAMPLES, MOST_HZ, MOST_DB = 64, 64, 2**36, 2**20, 200
INTEGERS = {"original_length": MOST_SAMPLES, "sample_rate": MOST_HZ, "chunk_length": 2**31, "channels": MOST_CHANNELS}


@dataclass(frozen=True)
class DacFile:
    """What a .dac file says.

    codes     uint16 [channels, codebooks, positions]
    samples   of each channel, at
    rate_hz   that of the recording, which need not be that of the model
    window    positions of the windows that were coded without padding, 0 for a recording that was coded as a whole
    input_db  the loudness that each channel is brought to, in dB
    """

    codes: np.ndarray
    samples: int
    rate_hz: int
    window: int
    input_db: tuple[float, ...]


def read(data: bytes) -> DacFile:
    """Raises BadFile for what is no such file, and for what is not sound."""
    array = _array_of(data)
    found = array[0] if isinstance(array, list) and len(array) == 1 else None
    codes = found.get("codes") if isinstance(found, dict) else None
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if (
        not isinstance(codes, np.ndarray)
        or codes.dtype.kind != "u"
        or codes.ndim != 3
        or not isinstance(metadata, dict)
    ):
        raise BadFile("this .dac file holds no codes with metadata")
    if metadata.get("dac_version") != VERSION:
        raise BadFile(f"this .dac file is of version {str(metadata.get('dac_version'))[:20]!r}, and vq reads {VERSION}")
    for name, most in INTEGERS.items():
        if type(metadata.get(name)) is not int or not 1 <= metadata[name] <= most:
            raise BadFile(f"the {name} of this .dac file is not within 1 to {most}")
    channels, codebooks, positions = codes.shape
    padding, window, input_db = metadata.get("padding"), metadata["chunk_length"], metadata.get("input_db")
    if channels != metadata["channels"] or not 1 <= codebooks <= MOST_CODEBOOKS or not positions:
        raise BadFile(f"codes {list(codes.shape)} are not those of {metadata['channels']} channels")
    if type(padding) is not bool or not isinstance(input_db, np.ndarray) or input_db.size not in (1, channels):
        raise BadFile("the metadata of this .dac file are damaged")
    if not (np.abs(input_db) <= MOST_DB).all():
        raise BadFile(f"the loudness of this .dac file is not within {MOST_DB} dB")
    if positions % window or (padding and positions != window):
        raise BadFile(f"{positions} positions of codes are no windows of {window}")
    db = tuple(input_db.ravel().tolist()) * (channels // input_db.size)
    return DacFile(codes, metadata["original_length"], metadata["sample_rate"], 0 if padding else window, db)


def write(file: DacFile) -> bytes:
    """The mirror of `read`. Raises UsageError for codes that such a file cannot hold."""
    channels, codebooks, positions = file.codes.shape
    if file.codes.max(initial=0) > 65535 or codebooks > MOST_CODEBOOKS or channels > MOST_CHANNELS:
        raise UsageError(f"codes {list(file.codes.shape)} do not fit into a .dac file", "--format npz takes any")
    content = {
        "codes": np.ascontiguousarray(file.codes, "<u2"),
        "metadata": {
            "input_db": np.array(file.input_db, "<f4"),
            "original_length": file.samples,
            "sample_rate": file.rate_hz,
            "chunk_length": file.window or positions,
            "channels": channels,
            "padding": not file.window,
            "dac_version": VERSION,
        },
    }
    stream = io.BytesIO()
    np.save(stream, np.array(content, object), allow_pickle=True)
    return stream.getvalue()


def _array_of(data: bytes) -> Any:
    """What the pickle in a .npy of one object holds, its arrays made. Raises BadFile."""
    if not data.startswith(b"\x93NUMPY\x01\x00") or len(data) < 10:
        raise BadFile("this is no .dac file")
    begin = 10 + int.from_bytes(data[8:10], "little")
    if begin > len(data) or not HEADER.fullmatch(data[10:begin]):
        raise BadFile("this is no .dac file")
    try:
        return _resolved(pickles.read(data[begin:]))
    except (ValueError, RecursionError) as error:
        raise BadFile(f"this .dac file is damaged, or wants to run something: {error}") from None


def _resolved(value: Any, depth: int = 0) -> Any:
    """Plain data with the arrays in it made. Raises ValueError for anything else that is called or named."""
    if depth > 6:
        raise ValueError("it is nested too deeply")
    if isinstance(value, Made):
        return _array(value, depth)
    if isinstance(value, Name):
        raise ValueError(f"it names {value.module}.{value.name}")
    if isinstance(value, dict):
        return {_resolved(key, depth + 1): _resolved(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_resolved(item, depth + 1) for item in value)
    return value


def _array(made: Made, depth: int) -> Any:
    """An array of DTYPES, or the list of what one of objects holds."""
    if not isinstance(made.called, Name) or made.called not in [Name(module, "_reconstruct") for module in MODULES]:
        raise ValueError(f"it calls {getattr(made.called, 'module', '?')}.{getattr(made.called, 'name', '?')}")
    if not isinstance(made.state, tuple) or len(made.state) != 5:
        raise ValueError("an array without content")
    _, shape, dtype, fortran, content = made.state
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("an array without a shape")
    kind, order = _dtype(dtype)
    if kind == "O8" and shape == () and isinstance(content, list) and len(content) == 1:
        return _resolved(content, depth + 1)
    if kind not in DTYPES or not isinstance(content, bytes):
        raise ValueError(f"an array of {str(kind)[:20]!r}, which is neither {' nor '.join(DTYPES)}")
    array = np.frombuffer(content, order + kind)
    if fortran not in (True, False) or array.size != int(np.prod(shape, dtype=object)):
        raise ValueError(f"an array of {array.size} numbers that says it is {list(shape)[:8]}")
    return array.astype(kind).reshape(shape, order="F" if fortran else "C")


def _dtype(made: Any) -> tuple[Any, str]:
    """The name of a type of numpy, and its order of bytes."""
    if not isinstance(made, Made) or made.called != Name("numpy", "dtype") or not isinstance(made.state, tuple):
        raise ValueError("an array without a type")
    order = made.state[1] if len(made.state) > 1 else None
    if not made.arguments or order not in ("<", ">", "|"):
        raise ValueError("a type without an order of bytes")
    return made.arguments[0], order
