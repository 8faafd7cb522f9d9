"""What a file name determines: whether it is an image, whether it is held out, and its class.

Names are relative, with slashes: `cat/1.png`. The split depends on names alone, so it stays the same from run to run
and when images are added, moved as a whole, or packed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vqcli.media.image import SUFFIXES

HELD_OUT_SHARE = 1 / 50


def is_held_out(name: str) -> bool:
    """Whether the hash of a name falls into the share of the data that is not trained on."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) < HELD_OUT_SHARE * 2**32


def held_out(names: Sequence[str]) -> list[bool]:
    """Which of the images of one source are held out.

    Where there is a folder `train` and a folder `val`, all in `train` is trained on and all else is held out;
    elsewhere the hash of each name decides.
    """
    if _divided(names):
        return [not name.startswith("train/") for name in names]
    return [is_held_out(name) for name in names]


def labels(names: Sequence[str]) -> list[str | None]:
    """The class of each image of one source: its first folder, or the second below `train` and `val`."""
    depth = 1 if _divided(names) else 0
    parts = (name.split("/") for name in names)
    return [folders[depth] if len(folders) > depth + 1 else None for folders in parts]


def _divided(names: Sequence[str]) -> bool:
    return {"train", "val"} <= {name.partition("/")[0] for name in names if "/" in name}


def is_image(name: str) -> bool:
    """Whether a name looks like an image, and neither it nor a folder of it is hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and "/." not in name


def printable(text: str) -> str:
    """Text from a file, made fit for terminals and JSON: control characters and broken bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
