"""Baseline speech codecs at their lowest rates."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import soundfile
import soxr

from vqcli.errors import UsageError, VqError, near_matches

RATE_HZ = 16_000
OPUS = "Opus"
# Modes of Codec2 (Rowe): bit/s. It codes 8 kHz; its commands come with most systems' package `codec2`.
CODEC2 = {"Codec2-3200": "3200", "Codec2-2400": "2400", "Codec2-1300": "1300", "Codec2-700C": "700C"}
CODECS = (OPUS, *CODEC2)
USUAL = (OPUS, "Codec2-1300", "Codec2-700C")  # the default baselines
DELAYS = {"3200": 280, "700C": 480}  # of its decoder in samples at 16 kHz; other modes 320


@dataclass(frozen=True, eq=False)
class CodedAudio:
    """Decoded mono float32 [N] at 16 kHz, of the original length, and the size of the file.

    Codec2 has no file: the size is computed from its bit rate, since c2enc leaves some bits of each frame unused.
    """

    samples: np.ndarray
    size_bytes: int


def available(codec: str) -> bool:
    """Whether `through` can run it here. Raises UsageError for an unknown codec."""
    if codec not in CODECS:
        raise UsageError(f"no codec {codec}", near_matches(codec, CODECS))
    return codec == OPUS or all(shutil.which(command) for command in ("c2enc", "c2dec"))


def through(samples: np.ndarray, codec: str) -> CodedAudio:
    """Encode and decode mono float32 [N] at 16 kHz. Raises UsageError for a codec that is unknown or not installed."""
    if not available(codec):
        raise UsageError(f"{codec} needs the commands c2enc and c2dec", "install the package codec2")
    return _opus(samples) if codec == OPUS else _codec2(samples, CODEC2[codec])


def _opus(samples: np.ndarray) -> CodedAudio:
    # libsndfile maps its compression level to bit rates: 1 is 6 kbit/s, the lowest that Opus knows
    stream = BytesIO()
    with soundfile.SoundFile(
        stream, "w", RATE_HZ, channels=1, format="OGG", subtype="OPUS", compression_level=1.0
    ) as file:
        file.write(np.clip(samples, -1, 1))
    size = stream.tell() if stream.seek(0, 2) else 0
    stream.seek(0)
    decoded, _ = soundfile.read(stream, dtype="float32")
    return CodedAudio(_of_length(decoded, len(samples)), size)


def _codec2(samples: np.ndarray, mode: str) -> CodedAudio:
    narrow = soxr.resample(np.asarray(samples, np.float32), RATE_HZ, 8000)
    # two more frames of 40 ms, for the last partial frame and the delay of the decoder
    pcm = np.round(np.clip(np.append(narrow, np.zeros(640)), -1, 1) * 32767).astype("<i2").tobytes()
    frames = _pipe(["c2enc", mode, "-", "-"], pcm)
    decoded = np.frombuffer(_pipe(["c2dec", mode, "-", "-"], frames), "<i2").astype(np.float32) / 32768
    wide = soxr.resample(decoded, 8000, RATE_HZ)[DELAYS.get(mode, 320) :]
    bits = int(mode.rstrip("C")) * len(samples) / RATE_HZ
    return CodedAudio(_of_length(wide, len(samples)), math.ceil(bits / 8))


def _pipe(command: list[str], data: bytes) -> bytes:
    try:
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=600).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise VqError(f"{command[0]} failed: {error}") from None


def _of_length(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
