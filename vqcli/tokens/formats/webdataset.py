"""A tar in webdataset naming: KEY.npy has the codes of an item, KEY.json its key, size and labels.

A KEY is that of the item with % and . as %25 and %2E, since a key ends at the first dot there.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.data import tars
from vqcli.errors import BadFile
from vqcli.tokens.formats import facts
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row


def dump(rows: Sequence[Row], plan: Plan) -> bytes:
    stream = BytesIO()
    common = {name: value for name, value in facts(plan).items() if name != "columns"}
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for row in rows:
            key = row.key.encode("utf-8", "backslashreplace").decode()
            codes = BytesIO()
            np.save(codes, row.codes, allow_pickle=False)
            labels = {name: row.labels.get(name) for name in plan.columns}
            fields: dict[str, Any] = {"key": key, "size": row.size, "side": row.side.decode(), "labels": labels}
            text = json.dumps(fields | common, sort_keys=True).encode()
            stem = key.replace("%", "%25").replace(".", "%2E").strip("/")
            for suffix, data in (("npy", codes.getvalue()), ("json", text)):
                member = tarfile.TarInfo(f"{stem}.{suffix}")
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    return stream.getvalue()


def load(data: bytes) -> list[Row]:
    rows = []
    codes: np.ndarray | None = None
    for member in tars.members(BytesIO(data), Path("the shard")):
        part = data[member.offset : member.offset + member.size]
        try:
            if member.name.endswith(".npy"):
                codes = np.load(BytesIO(part), allow_pickle=False)
            elif member.name.endswith(".json") and codes is not None:
                fields = json.loads(part)
                width, height, channels = (int(each) for each in fields["size"])
                side = str(fields["side"]).encode()
                rows.append(Row(str(fields["key"]), codes, (width, height, channels), side, dict(fields["labels"])))
                codes = None
        except Exception as error:  # on hostile bytes the readers raise arbitrary exceptions
            raise BadFile(f"{member.name}: {' '.join(str(error).split())[:200]}") from None
    return rows
