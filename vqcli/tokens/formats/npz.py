"""Arrays of numpy (tokens/arrays.py), not compressed, so that they can be read through a memory map."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from vqcli.errors import BadFile
from vqcli.tokens.arrays import arrays_of, rows_of
from vqcli.tokens.formats import columns_in, facts
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row

FACTS = "vq"


def dump(rows: Sequence[Row], plan: Plan) -> bytes:
    stream = BytesIO()
    arrays: dict[str, Any] = arrays_of(rows, plan.columns, plan.codebook_sizes)
    arrays[FACTS] = np.array(json.dumps(facts(plan), sort_keys=True))
    np.savez(stream, **arrays)
    return stream.getvalue()


def load(data: bytes) -> list[Row]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise BadFile("its arrays are compressed")  # and could unpack to anything
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
            return rows_of(parts, columns_in(str(parts[FACTS])))
    except BadFile:
        raise
    except Exception as error:  # on hostile bytes the readers raise arbitrary exceptions
        raise BadFile(f"it is no .npz of tokens: {' '.join(str(error).split())[:200]}") from None
