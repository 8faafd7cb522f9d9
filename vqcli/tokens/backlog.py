"""Shards that are still to do, in a temporary file: a source is listed once, however long its list is."""

from __future__ import annotations

import pickle
import tempfile
import zlib
from collections.abc import Iterator

from vqcli.files import no_room
from vqcli.files.streams import IN_MEMORY
from vqcli.tokens.plan import Shard


class Backlog:
    """Shards, one after another: 5 to 20 bytes an item, beyond IN_MEMORY bytes in a file that has no name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, shard: Shard) -> None:
        """Raises OutputError if there is no room."""
        data = zlib.compress(pickle.dumps(shard), 1)
        try:
            self._file.write(len(data).to_bytes(8, "little") + data)
        except OSError as error:
            raise no_room("the list of items", error) from error
        self._count += 1

    def taken(self) -> Iterator[Shard]:
        """Every shard."""
        self._file.seek(0)
        for _ in range(self._count):
            size = int.from_bytes(self._file.read(8), "little")
            yield pickle.loads(zlib.decompress(self._file.read(size)))  # of this process

    def close(self) -> None:
        self._file.close()
