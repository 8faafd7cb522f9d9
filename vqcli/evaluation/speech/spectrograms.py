"""Images of log-mel spectrograms, one above the other, over one time axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqcli.errors import UsageError
from vqcli.evaluation.speech import metrics
from vqcli.media import mel
from vqcli.media.charts import round_ticks

LOUDEST_DB, QUIETEST_DB = 15.0, -55.0  # of `metrics.log_mel`: the peaks of speech, the noise of rooms
BAND = 2  # pixels for each of the 80 bands
WIDTH = 900  # pixels of the time axis, about
MARGIN, CAPTION, AXIS = 44, 22, 24  # pixels: left of the spectra, above each, below all
TICKS = {500: "0.5", 1000: "1", 2000: "2", 4000: "4 kHz"}
# black, violet, red, yellow, white: each step lighter than the last, in print and for the colour-blind
COLOURS = np.array([(6, 4, 20), (74, 18, 105), (160, 45, 100), (226, 96, 50), (250, 180, 60), (255, 252, 220)])


def stacked(waveforms: Sequence[tuple[str, np.ndarray]], seconds: float = 8.0) -> np.ndarray:
    """RGB uint8 [H, W, 3] of the first `seconds` of titled waveforms, mono float [N] at 16 kHz, on white.

    All have one loudness and one range of 70 dB. Raises UsageError if there are none, or one is shorter than 10 ms.
    """
    spectra = [metrics.log_mel(samples[: round(seconds * mel.RATE_HZ)]) for _, samples in waveforms]
    if not spectra or min(spectrum.shape[1] for spectrum in spectra) == 0:
        raise UsageError("there is no audio to show")
    frames = max(spectrum.shape[1] for spectrum in spectra)
    frame_width = max(1, WIDTH // frames)  # pixels for each frame
    band_height = mel.BANDS * BAND
    width, height = MARGIN + frames * frame_width + 12, len(spectra) * (CAPTION + band_height) + AXIS
    image = Image.new("RGB", (width, height), "white")
    draw, font, small = ImageDraw.Draw(image), ImageFont.load_default(14), ImageFont.load_default(11)
    for index, ((title, _), spectrum) in enumerate(zip(waveforms, spectra, strict=True)):
        top = index * (CAPTION + band_height) + CAPTION
        draw.text((MARGIN, top - 4), title, "black", font, anchor="ls")
        image.paste(Image.fromarray(_colours(spectrum, frame_width)), (MARGIN, top))
        for hz, name in TICKS.items():
            y = top + band_height - 1 - round(_position(hz) * band_height)
            draw.line((MARGIN - 4, y, MARGIN - 1, y), "black")
            draw.text((MARGIN - 6, y), name, "black", small, "rm")
    bottom = height - AXIS
    length_s = frames * mel.HOP / mel.RATE_HZ
    for tick in round_ticks(0, length_s, 8):
        x = MARGIN + round(tick / length_s * frames * frame_width)
        draw.line((x, bottom, x, bottom + 4), "black")
        draw.text((x, bottom + 6), f"{tick:g} s", "black", small, "mt")
    return np.asarray(image)


def picture(samples: np.ndarray) -> np.ndarray:
    """The spectrogram alone, RGB uint8 [160, T, 3] of a waveform, mono float [N] at 16 kHz."""
    return _colours(metrics.log_mel(samples), max(1, min(2, WIDTH * mel.HOP // max(1, len(samples)))))


def _colours(spectrum: np.ndarray, frame_width: int) -> np.ndarray:
    """uint8 [80 * BAND, T * frame_width, 3] of a spectrum in dB [80, T], low bands at the bottom."""
    share = np.clip((spectrum[::-1] - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB), 0, 1)
    steps = np.arange(len(COLOURS)) / (len(COLOURS) - 1)
    rgb = np.stack([np.interp(share, steps, channel) for channel in COLOURS.T], axis=2)  # (80, T, 3)
    return rgb.round().astype(np.uint8).repeat(BAND, axis=0).repeat(frame_width, axis=1)


def _position(hz: float) -> float:
    """Position of a frequency among the bands, 0 .. 1."""
    filters = mel.filters()
    centres = filters @ np.linspace(0, mel.RATE_HZ / 2, filters.shape[1])
    return float(np.interp(hz, centres, (np.arange(mel.BANDS) + 0.5) / mel.BANDS))
