"""Where shards lie: a folder, or a place in a store of fsspec; files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from vqcli.files import make_folder, remote, replacing
from vqcli.files.remote import Remote

LARGEST = 2**36  # bytes of a file of a set


class Store:
    """Files by name, with slashes, below one place: a folder or a URL. An engine hands it to its workers, so it is
    small and pickles."""

    def __init__(self, place: str) -> None:
        self.place = place

    def called(self, name: str) -> str:
        """What messages call a file."""
        return str(self._at(name))

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none. Raises Unreachable."""
        found = self._at(name)
        if isinstance(found, Remote):
            return found.length()
        try:
            return found.stat().st_size
        except OSError:
            return None

    def read(self, name: str) -> bytes:
        """Raises BadFile, Unreachable."""
        return remote.read(self._at(name), LARGEST)

    def write(self, name: str, data: bytes) -> None:
        """A file, over one of that name: equal inputs make equal files. Raises OutputError."""
        found = self._at(name)
        if isinstance(found, Remote):
            found.write(data)
            return
        make_folder(found.parent)
        with replacing(found, force=True) as stream:
            stream.write(data)

    def _at(self, name: str) -> Path | Remote:
        return remote.place(self.place) / name
