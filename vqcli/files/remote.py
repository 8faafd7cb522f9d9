"""Files of remote stores, as fsspec knows them: s3://, gs://, hf://, https://, memory:// and others.

place("s3://bucket/images")     Remote; of all else, file:// too, a Path

A store that does not answer is an Unreachable, which is no fault of the file: who lists bad files stops instead.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from vqcli.errors import BadFile, OutputError, VqError
from vqcli.files.streams import PIECE

PACKAGES = {  # that fsspec needs, by what a URL begins with
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp requests",
    "https": "aiohttp requests", "az": "adlfs", "abfs": "adlfs",
}  # fmt: skip
WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "memory"))  # what is put there appears as a whole
AGAIN = (408, 425, 429)  # of a web server: too slow, too early, too many requests
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.", re.DOTALL)
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|(?<=\?)\S+")  # of URLs: name and password, or a signature


class Unreachable(VqError):
    """A store that cannot be asked: no network, no credentials, no permission, a package that is missing."""


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def place(text: str | Path) -> Path | Remote:
    """What a text names: a file or folder of this machine, or of a store."""
    if isinstance(text, Path) or not is_url(text):
        return Path(text)
    return Path(text[7:]) if text[:7].lower() == "file://" else Remote(text)


def opened(place: Path | Remote) -> AbstractContextManager[BinaryIO]:
    """A file to read and seek in, as a context. Raises OSError for one of this machine, or as `Remote.open`."""
    return place.open("rb") if isinstance(place, Path) else place.open()


def read(place: Path | Remote, most: int) -> bytes:
    """The bytes of a file. Raises BadFile for one that cannot be read or has more than `most`, Unreachable."""
    if isinstance(place, Remote):
        return place.read(most)
    with _of_here(place), place.open("rb") as stream:
        return _all(stream, place, most)


def _all(stream: BinaryIO, place: Path | Remote, most: int) -> bytes:
    """What a stream holds, in pieces: to read many bytes at once allocates as many. Raises BadFile."""
    pieces: list[bytes] = []
    while piece := stream.read(PIECE):
        pieces.append(piece)
        if len(pieces) * PIECE > most + PIECE:
            break
    data = b"".join(pieces)
    if len(data) > most:
        raise BadFile(f"{place} is too large: more than {most} bytes")
    return data


def read_range(place: Path | Remote, offset: int, size: int) -> bytes:
    """Some bytes of a file. Raises BadFile for one that cannot be read or ends before, Unreachable."""
    if isinstance(place, Remote):
        return place.range(offset, size)
    with _of_here(place), place.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    if len(data) < size:
        raise BadFile(f"{place} is cut off")
    return data


@contextmanager
def _of_here(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class Remote:
    """A file or folder of a store, with those members of a Path that readers ask for.

    size    bytes of a file, as a listing said; None if it has not been asked for
    """

    url: str
    size: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """Without the name, password or signature that a URL may have."""
        return _SECRETS.sub("...", self.url)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def _path(self) -> str:
        """Without what follows a question mark on the web: elsewhere that is part of a name."""
        return self.url.partition("?")[0] if self.scheme in ("http", "https") else self.url

    @property
    def name(self) -> str:
        return self._path.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Remote:
        return Remote(self._path.rstrip("/").rpartition("/")[0])

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self._path.rstrip('/')}/{name}")

    def kind(self) -> str:
        """'file', 'folder', or '' for nothing. Raises Unreachable."""
        if self.scheme in ("http", "https") and self._path.endswith("/"):
            return "folder"
        with self._asking():
            system, path = self._system()
            try:
                return "file" if system.info(path)["type"] == "file" else "folder"
            except FileNotFoundError as error:
                if not _missing(error):
                    raise
                return ""

    def length(self) -> int | None:
        """Bytes of a file as it is now, None if there is none. Raises Unreachable."""
        with self._asking():
            system, path = self._system()
            system.invalidate_cache()
            try:
                found = system.info(path)
            except FileNotFoundError as error:
                if not _missing(error):
                    raise
                return None
        return None if found["type"] != "file" else int(found["size"] or 0)

    def below(self) -> dict[str, Remote]:
        """The files anywhere in a folder by their names, sorted; what is hidden is left out. Raises Unreachable."""
        with self._asking():
            system, path = self._system()
            found = system.find(path, detail=True)
        root, files = path.rstrip("/") + "/", {}
        for full, facts in found.items():
            name = full.removeprefix(root)
            hidden = any(part.startswith(".") for part in name.split("/"))
            if full.startswith(root) and not full.endswith("/") and not hidden and facts["type"] == "file":
                size = facts.get("size")
                files[name] = Remote(f"{self._path.rstrip('/')}/{name}", None if size is None else int(size))
        return dict(sorted(files.items()))

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """To read and seek in. Raises Unreachable, also from the stream; BadFile if there is no such file."""
        with self._asking():
            system, path = self._system()
            file = system.open(path, "rb")
        with io.BufferedReader(_Stream(self, file)) as stream:
            yield cast(BinaryIO, stream)

    def read(self, most: int) -> bytes:
        """The bytes of a file. Raises BadFile for more than `most`, or none such; Unreachable."""
        if self.size is not None and self.size <= most:
            return self.range(0, self.size)
        with self.open() as stream:
            return _all(stream, self, most)

    def range(self, offset: int, size: int) -> bytes:
        """Some bytes of a file. Raises BadFile if it is shorter, Unreachable."""
        if not size:
            return b""
        with self._asking():
            system, path = self._system()
            data = system.cat_file(path, start=offset, end=offset + size)
        if len(data) < size:
            raise BadFile(f"{self} is cut off: it has no {size} bytes at {offset}")
        return bytes(data[:size])

    def write(self, data: bytes) -> None:
        """A file, whole or not at all, over one of that name. Raises OutputError."""
        with self._asking("written", OutputError):
            system, path = self._system()
            if self.scheme in WHOLE:
                system.pipe_file(path, data)
                return
            folder = path.rpartition("/")[0]
            system.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/.vq-{secrets.token_hex(8)}.tmp"
            try:
                system.pipe_file(temporary, data)
                system.mv(temporary, path)
            except BaseException:
                if system.exists(temporary):
                    system.rm_file(temporary)
                raise

    def _system(self) -> tuple[Any, str]:
        """The file system of fsspec, without its memory of listings, which other machines make untrue; and the path."""
        from fsspec.core import url_to_fs

        system, path = url_to_fs(self.url, use_listings_cache=False)
        return system, str(path)

    @contextmanager
    def _asking(self, what: str = "read", kind: type[VqError] = Unreachable) -> Iterator[None]:
        """What goes wrong within the block, in whatever words, is a BadFile for a missing file, else of `kind`."""
        try:
            yield
        except VqError:
            raise
        except ImportError as error:
            package = PACKAGES.get(self.scheme, "")
            hint = f"pip install '{package}'" if package else _line(error)
            raise kind(f"{self.scheme}:// needs a package that is not here", hint) from None
        except Exception as error:  # each store has errors of its own
            if what == "read" and _missing(error):
                raise BadFile(f"{self} cannot be read: {_line(error)}") from None
            raise kind(
                f"{self} cannot be {what}: {_line(error)}", "check the address, the network and your credentials"
            ) from None


class _Stream(io.RawIOBase):
    """A file of fsspec whose errors are vq's."""

    def __init__(self, place: Remote, file: Any) -> None:
        self._place, self._file = place, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._place._asking():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._place._asking():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _missing(error: BaseException) -> bool:
    """Whether a store answers that there is no such file, or a web server that it does not give it: status 4xx, but for
    those that ask for patience.

    fsspec says so too of a web server that does not answer, with the true error as the cause.
    """
    if isinstance(error, FileNotFoundError):
        return isinstance(error.__cause__, FileNotFoundError) or not isinstance(error.__cause__, OSError)
    status = getattr(error, "status", 0)
    return status in range(400, 500) and status not in AGAIN


def _line(error: BaseException) -> str:
    """One line of an error; those of the web repeat the URL with its secrets."""
    text = _SECRETS.sub("...", " ".join(str(error).split()))[:200]
    return text or type(error).__name__
