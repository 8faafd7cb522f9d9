"""What a whole recording tells of its voice: means and spreads of its spectrum and pitch, one vector for each clip.

Nets normalise what they hear by it, so that codes need not carry who speaks through which microphone, and guess the
voice from it. It is gathered window by window, so long recordings need no more memory than short ones.
"""

from __future__ import annotations

import numpy as np

from vqcli.media import mel, pitch

LEVEL_DB = -26.0  # RMS of the active part, at which nets hear everything
ACTIVE_DB = -51.0  # frames below it are pauses
SIZE = 2 * mel.BANDS + 3  # mean and spread of each band; mean and spread of log pitch, share of voiced positions
USUAL_LOG_HZ = float(np.log(150.0))  # where nothing is voiced
_WINDOW = 60 * mel.RATE_HZ


def profile(samples: pitch.Sound, pitch_codes: np.ndarray) -> np.ndarray:
    """float32 [SIZE] of samples float32 [N] at LEVEL_DB and its pitch codes [P]."""
    count, total, squares = 0, np.zeros(mel.BANDS), np.zeros(mel.BANDS)
    for first in range(0, len(samples), _WINDOW):
        part = np.asarray(samples[first : first + _WINDOW], np.float32)
        spectra = mel.log_mel(part)  # (bands, T)
        frames = part[: spectra.shape[1] * mel.HOP].reshape(-1, mel.HOP)
        active = spectra[:, np.square(frames).mean(1) > 10 ** (ACTIVE_DB / 10)].astype(np.float64)
        count += active.shape[1]
        total += active.sum(1)
        squares += np.square(active).sum(1)
    mean = total / count if count else np.full(mel.BANDS, np.log(mel.FLOOR))
    spread = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.05))
    voiced = pitch_codes[pitch_codes > 0]
    log_hz = np.log(pitch.from_codes(voiced)) if len(voiced) else np.array([USUAL_LOG_HZ])
    rest = (log_hz.mean(), log_hz.std(), len(voiced) / max(len(pitch_codes), 1))
    return np.concatenate([mean, spread, rest]).astype(np.float32)


def gain(loudness_db: float, level_db: float = LEVEL_DB) -> float:
    """What a recording of this loudness (dB RMS of its active part) is multiplied by for a level; 1 for silence."""
    return 10 ** ((level_db - loudness_db) / 20) if loudness_db > -90 else 1.0
