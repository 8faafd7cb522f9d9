"""Where shards lie: a folder, whose files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from vqcli.errors import BadFile
from vqcli.files import make_folder, replacing


class Store:
    """Files by name, with slashes, below one place. An engine hands it to its workers, so it is small and pickles."""

    def __init__(self, place: str) -> None:
        self.place = place

    def path(self, name: str) -> Path:
        """Of a file, for those who read it in place."""
        return Path(self.place) / name

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""
        try:
            return self.path(name).stat().st_size
        except OSError:
            return None

    def read(self, name: str) -> bytes:
        """Raises BadFile."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise BadFile(f"{self.path(name)} cannot be read: {error.strerror or error}") from None

    def write(self, name: str, data: bytes) -> None:
        """A file, through a temporary one, over one of that name: equal inputs make equal files. Raises OutputError."""
        path = self.path(name)
        make_folder(path.parent)
        with replacing(path, force=True) as stream:
            stream.write(data)
