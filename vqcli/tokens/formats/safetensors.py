"""Arrays (tokens/arrays.py) in a .safetensors file, whose metadata says of what model they are."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save

from vqcli.errors import BadFile
from vqcli.tokens.arrays import arrays_of, rows_of
from vqcli.tokens.formats import columns_in, facts
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row

FACTS = "vq"


def dump(rows: Sequence[Row], plan: Plan) -> bytes:
    text = json.dumps(facts(plan), sort_keys=True)
    return bytes(save(arrays_of(rows, plan.columns, plan.codebook_sizes), {FACTS: text}))


def load(data: bytes) -> list[Row]:
    try:
        arrays = load_arrays(data)
        length = int.from_bytes(data[:8], "little")
        metadata = msgspec.json.decode(data[8 : 8 + length])["__metadata__"]
        return rows_of(arrays, columns_in(metadata[FACTS]))
    except BadFile:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(f"it is no .safetensors of tokens: {' '.join(str(error).split())[:200]}") from None
