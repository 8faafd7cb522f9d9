"""What all calls share: the files and models they work with, and how results become files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import msgspec

from vqcli.container import vqz
from vqcli.container.bounds import Limits
from vqcli.container.vqz import Vqz
from vqcli.errors import OutputError, UsageError
from vqcli.files import size_text
from vqcli.media import video
from vqcli.pages.parts import Part
from vqcli.progress import ProgressCallback
from vqcli.web.files import Facts, Files, Stored
from vqcli.web.jobs import Outcome
from vqcli.web.library import Library

TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "tif": "image/tiff",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "gif": "image/gif",
}
Format = Literal["png", "jpg", "webp", "avif", "tif", "wav", "flac", "opus", "mp3", "mp4", "webm", "gif"]
VQZ = "application/octet-stream"
NAMED = "FILE"  # what commands call the client's file, whose name the server does not know
View = Sequence[Part]


@dataclass(frozen=True)
class Workspace:
    """What calls work with; `limits` are those of what files declare."""

    files: Files
    library: Library
    limits: Limits

    @property
    def allowed(self) -> dict[str, Any]:
        """The limits, as `vqcli.api` takes them."""
        return {"max_pixels": self.limits.pixels, "max_seconds": self.limits.seconds}

    def source(self, id: str) -> Stored:
        """A file that is an image, a recording or a clip. Raises Gone, UsageError."""
        stored = self.files.get(id)
        if stored.facts.coded:
            raise UsageError("this is a .vqz file already", "decode it, or convert it to a voice")
        return stored

    def parsed(self, stored: Stored, *, salvage: bool = False) -> Vqz:
        """A file that is a .vqz file. Raises UsageError, BadFile, and DamagedChunks unless `salvage`."""
        if not stored.facts.coded:
            raise UsageError(f"this is no .vqz file but of {stored.facts.medium}", "encode it")
        return vqz.unpack(stored.data, salvage=salvage, limits=self.limits)

    def add_vqz(self, data: bytes, medium: str, name: str = "") -> Facts:
        return self.files.add(data, f"{name or medium}.vqz", VQZ, medium, coded=True)

    def add(self, write: Callable[[BytesIO, str], Any], name: str, format: str, medium: str) -> Facts:
        """Keep what `write(stream, format)` writes. Raises OutputError for more than all files may have."""
        stream = _Bounded(self.files.most_bytes)
        write(stream, format)
        return self.files.add(stream.getvalue(), f"{name}.{format}", TYPES[format], medium)


class _Bounded(BytesIO):
    """Memory to write to, of so many bytes at most: a small file may decode to a large one."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._most_bytes:
            raise OutputError(f"the result is larger than {size_text(self._most_bytes)}", "the command line takes it")
        return super().write(data)


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A call as JSON. Fields that are left out or null are what the command line takes for them."""

    def run(self, workspace: Workspace, progress: ProgressCallback) -> tuple[Outcome, View]:
        """Do it: what is made, and what the page shows of it."""
        raise NotImplementedError


def usual_format(medium: str) -> str:
    """Without loss, or of clips what any browser plays."""
    return {"image": "png", "audio": "wav", "video": "mp4" if video.available() else "webp"}[medium]


def part(progress: ProgressCallback, begin: float, end: float) -> ProgressCallback:
    """Progress of a step, as a part of all."""
    return lambda share: progress(begin + (end - begin) * share)
