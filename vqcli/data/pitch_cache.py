"""A cache of utterances' pitch codes: tracking pitch takes most of the start of a run.

Each utterance has a file in the user's cache folder, named by a hash of its samples. Missing or damaged files are
computed again; write errors are ignored.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from vqcli.errors import VqError
from vqcli.files import replacing
from vqcli.media import pitch

VERSION = b"1 "  # of pitch tracking and coding


def folder() -> Path:
    """The cache folder."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "vq" / "pitch"


def codes_of(samples: np.ndarray) -> np.ndarray:
    """uint8 [N // pitch.STEP] of samples float32 [N], from the cache or tracked now."""
    name = hashlib.sha256(VERSION + samples.tobytes()).hexdigest()[:32]
    path, length = folder() / name[:2] / name, len(samples) // pitch.STEP
    with suppress(OSError):
        if path.stat().st_size == length:
            codes = np.frombuffer(path.read_bytes(), np.uint8)
            if len(codes) == length and (not length or codes.max() < pitch.PITCHES):
                return codes
    codes = pitch.to_codes(pitch.track(samples))
    with suppress(OSError, VqError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, force=True) as stream:
            stream.write(codes.tobytes())
    return codes
