"""The voice profile of a recording: means and standard deviations of its spectrum and pitch, as one vector.

Nets normalise their input features by it, so that codes need not carry speaker and microphone, and predict the voice
embedding from it. It is computed window by window, so long recordings need no more memory than short ones.
"""

from __future__ import annotations

import numpy as np

from vqcli.media import mel, pitch

LEVEL_DB = -26.0  # RMS of the active part, of all input to nets
QUIETEST_DB = -90.0  # what is below counts as silence
ACTIVE_DB = -51.0  # frames below it are pauses
SIZE = 2 * mel.BANDS + 3  # mean and deviation of each band; mean and deviation of log pitch, share of voiced positions
USUAL_LOG_HZ = float(np.log(150.0))  # where nothing is voiced
_WINDOW = 60 * mel.RATE_HZ


def profile(samples: pitch.Waveform, pitch_codes: np.ndarray) -> np.ndarray:
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
    pitch_features = (log_hz.mean(), log_hz.std(), len(voiced) / max(len(pitch_codes), 1))
    return np.concatenate([mean, spread, pitch_features]).astype(np.float32)


def gain(loudness_db: float, level_db: float = LEVEL_DB) -> float:
    """The factor that brings a recording of this loudness (dB RMS of its active part) to `level_db`; 1 for silence."""
    return 10 ** ((level_db - loudness_db) / 20) if loudness_db > QUIETEST_DB else 1.0
