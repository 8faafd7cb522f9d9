"""A Parquet file: a row an item, with columns key, codes, shape, size, side and those of labels. Needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from vqcli.codec.codes import code_type
from vqcli.errors import BadFile, UsageError
from vqcli.tokens.formats import columns_in, facts
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row

FACTS = "vq"
LARGEST = 2**32  # bytes of a shard, unpacked
OWN = ("key", "codes", "shape", "size", "side")


def dump(rows: Sequence[Row], plan: Plan) -> bytes:
    pa, parquet = _pyarrow()
    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    code = pa.from_numpy_dtype(code_type(plan.codebook_sizes))
    if taken := set(OWN) & set(plan.columns):
        raise UsageError(f"a Parquet shard has a column {min(taken)} of its own", "--columns names those to carry")
    fields = [
        ("key", pa.string()), ("codes", pa.list_(code)), ("shape", pa.list_(pa.int32())),
        ("size", pa.list_(pa.int64())), ("side", pa.string()),
        *((name, types[type]) for name, type in plan.columns.items()),
    ]  # fmt: skip
    lengths = np.cumsum([0, *(row.codes.size for row in rows)]).astype(np.int32)
    flat = np.concatenate([np.empty(0, code_type(plan.codebook_sizes)), *(row.codes.ravel() for row in rows)])
    columns: list[Any] = [
        [row.key.encode("utf-8", "backslashreplace").decode() for row in rows],
        pa.ListArray.from_arrays(pa.array(lengths), pa.array(flat, code)),
        [list(row.codes.shape) for row in rows],
        [list(row.size) for row in rows],
        [row.side.decode() for row in rows],
        *([row.labels.get(name) for row in rows] for name in plan.columns),
    ]
    schema = pa.schema(fields, {FACTS: json.dumps(facts(plan), sort_keys=True)})
    arrays = [
        each if isinstance(each, pa.Array) else pa.array(each, type)
        for each, (_, type) in zip(columns, fields, strict=True)
    ]
    stream = BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def load(data: bytes) -> list[Row]:
    _, parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(BytesIO(data))
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        if not 0 <= unpacked <= LARGEST:
            raise BadFile(f"unpacked it has {unpacked} bytes")
        names = columns_in((file.schema_arrow.metadata or {})[FACTS.encode()])
        table = file.read(columns=[*OWN, *names], use_threads=False)
        codes = table.column("codes").combine_chunks()
        flat, ends = codes.flatten().to_numpy(), codes.offsets.to_numpy()
        rest = {name: table.column(name).to_pylist() for name in ("key", "shape", "size", "side", *names)}
        if codes.null_count or any(rest[name].count(None) for name in OWN if name in rest):
            raise BadFile("some of its rows lack what each has")
        return [
            Row(
                rest["key"][i], flat[ends[i] : ends[i + 1]].reshape(rest["shape"][i]), tuple(rest["size"][i]),
                rest["side"][i].encode(), {name: rest[name][i] for name in names},
            )
            for i in range(table.num_rows)
        ]  # fmt: skip
    except BadFile:
        raise
    except Exception as error:  # on hostile bytes the readers raise arbitrary exceptions
        raise BadFile(f"it is no .parquet of tokens: {' '.join(str(error).split())[:200]}") from None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs an extra", "pip install 'vqcli[parquet]'") from None
    return pa, parquet
