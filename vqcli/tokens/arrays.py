"""Rows as a few arrays, for formats that hold arrays, and back.

    codes                all codes, row after row
    shapes               int32 [N, 2 or 3]: groups and positions, or groups, rows and columns
    sizes                int32 [N, 3]: Row.size
    keys, side           uint8: texts one after another; keys.ends and side.ends int64 [N] are where each ends
    labels.NAME          of a column: int64 or float64 [N], or as keys; labels.NAME.null uint8 [N]: 1 for none

Row i of a shard whose rows are alike is codes.reshape(N, *shapes[0])[i].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqcli.codec.codes import code_type
from vqcli.errors import BadFile
from vqcli.tokens.rows import Row

NUMBERS = {"int": np.int64, "float": np.float64}


def arrays_of(rows: Sequence[Row], columns: Mapping[str, str], codebook_sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays of rows."""
    dtype = code_type(codebook_sizes)
    dimensions = rows[0].codes.ndim if rows else 0
    arrays: dict[str, np.ndarray] = {
        "codes": np.concatenate([np.empty(0, dtype), *(row.codes.astype(dtype).ravel() for row in rows)]),
        "shapes": np.array([row.codes.shape for row in rows], np.int32).reshape(len(rows), dimensions),
        "sizes": np.array([row.size for row in rows], np.int64).reshape(len(rows), 3),
        **_texts("keys", [row.key.encode("utf-8", "backslashreplace") for row in rows]),
        **_texts("side", [row.side for row in rows]),
    }
    for name, type in columns.items():
        values: list[Any] = [row.labels.get(name) for row in rows]
        arrays[f"labels.{name}.null"] = np.array([value is None for value in values], np.uint8)
        if type == "str":
            arrays |= _texts(f"labels.{name}", [(value or "").encode("utf-8", "backslashreplace") for value in values])
        else:
            arrays[f"labels.{name}"] = np.array([value or 0 for value in values], NUMBERS[type])
    return arrays


def rows_of(arrays: Mapping[str, np.ndarray], columns: Mapping[str, str]) -> list[Row]:
    """The mirror of `arrays_of`. Raises BadFile if the arrays do not agree."""
    try:
        return _rows_of(arrays, columns)
    except (KeyError, ValueError, TypeError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise BadFile(f"arrays of a shard do not agree: {' '.join(str(error).split())}") from None


def _rows_of(arrays: Mapping[str, np.ndarray], columns: Mapping[str, str]) -> list[Row]:
    codes, shapes, sizes = arrays["codes"], arrays["shapes"].astype(np.int64), arrays["sizes"]
    count = len(shapes)
    if codes.dtype not in (np.uint16, np.uint32) or codes.ndim != 1 or sizes.shape != (count, 3) or shapes.min(
        initial=1
    ) < 1 or shapes.max(initial=0) >= 2**31:  # fmt: skip
        raise ValueError("shapes")
    lengths = [int(np.prod(shape.astype(object))) for shape in shapes]
    if sum(lengths) != len(codes):
        raise ValueError(f"{len(codes)} codes, and shapes of {sum(lengths)}")
    keys, side = (_split(arrays, name, count) for name in ("keys", "side"))
    labels: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, type in columns.items():
        key = f"labels.{name}"
        values: Any = [text.decode() for text in _split(arrays, key, count)] if type == "str" else arrays[key].tolist()
        for each, value, null in zip(labels, values, arrays[f"{key}.null"].tolist(), strict=True):
            each[name] = None if null else value
    rows, at = [], 0
    for i, length in enumerate(lengths):
        part = codes[at : at + length].reshape(shapes[i].tolist())
        width, height, channels = sizes[i].tolist()
        rows.append(Row(keys[i].decode(), part, (width, height, channels), side[i], labels[i]))
        at += length
    return rows


def _texts(name: str, texts: Sequence[bytes]) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return {name: np.frombuffer(b"".join(texts), np.uint8), f"{name}.ends": ends}


def _split(arrays: Mapping[str, np.ndarray], name: str, count: int) -> list[bytes]:
    data, ends = arrays[name].astype(np.uint8).tobytes(), arrays[f"{name}.ends"].tolist()
    if len(ends) != count or sorted(ends) != ends or (ends[-1] if ends else 0) != len(data) or (ends and ends[0] < 0):
        raise ValueError(f"{name} do not end where they should")
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
