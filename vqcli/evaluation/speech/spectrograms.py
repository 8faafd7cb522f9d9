"""Pictures of speech: log-mel spectra one above the other, over one axis of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqcli.errors import UsageError
from vqcli.evaluation.speech import metrics
from vqcli.media import mel
from vqcli.media.charts import round_ticks

LOUDEST_DB, QUIETEST_DB = 15.0, -55.0  # of `hearing.log_mel`; speech reaches up to the one, rooms down to the other
BAND = 2  # pixels for each of the 80 bands
WIDTH = 900  # pixels of the time axis, about
MARGIN, CAPTION, AXIS = 44, 22, 24  # pixels: left of the spectra, above each, below all
TICKS = {500: "0.5", 1000: "1", 2000: "2", 4000: "4 kHz"}
# black, violet, red, yellow, white: each step lighter than the last, in print and for the colour-blind
COLOURS = np.array([(6, 4, 20), (74, 18, 105), (160, 45, 100), (226, 96, 50), (250, 180, 60), (255, 252, 220)])


def stacked(sounds: Sequence[tuple[str, np.ndarray]], seconds: float = 8.0) -> np.ndarray:
    """RGB uint8 [H, W, 3] of the first `seconds` of titled sounds, mono float [N] at 16 kHz, on white.

    All are brought to one loudness and one range of 70 dB. Raises UsageError if there are none, or one is shorter
    than 10 ms.
    """
    spectra = [metrics.log_mel(samples[: round(seconds * mel.RATE_HZ)]) for _, samples in sounds]
    if not spectra or min(spectrum.shape[1] for spectrum in spectra) == 0:
        raise UsageError("there is no sound to draw")
    frames = max(spectrum.shape[1] for spectrum in spectra)
    wide = max(1, WIDTH // frames)  # pixels for each frame
    high = mel.BANDS * BAND
    width, height = MARGIN + frames * wide + 12, len(spectra) * (CAPTION + high) + AXIS
    picture = Image.new("RGB", (width, height), "white")
    draw, font, small = ImageDraw.Draw(picture), ImageFont.load_default(14), ImageFont.load_default(11)
    for index, ((title, _), spectrum) in enumerate(zip(sounds, spectra, strict=True)):
        top = index * (CAPTION + high) + CAPTION
        draw.text((MARGIN, top - 4), title, "black", font, anchor="ls")
        picture.paste(Image.fromarray(_coloured(spectrum, wide)), (MARGIN, top))
        for hz, name in TICKS.items():
            y = top + high - 1 - round(_place(hz) * high)
            draw.line((MARGIN - 4, y, MARGIN - 1, y), "black")
            draw.text((MARGIN - 6, y), name, "black", small, "rm")
    bottom = height - AXIS
    length_s = frames * mel.HOP / mel.RATE_HZ
    for tick in round_ticks(0, length_s, 8):
        x = MARGIN + round(tick / length_s * frames * wide)
        draw.line((x, bottom, x, bottom + 4), "black")
        draw.text((x, bottom + 6), f"{tick:g} s", "black", small, "mt")
    return np.asarray(picture)


def _coloured(spectrum: np.ndarray, wide: int) -> np.ndarray:
    """uint8 [80 * BAND, T * wide, 3] of a spectrum in dB [80, T], low bands at the bottom."""
    share = np.clip((spectrum[::-1] - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB), 0, 1)
    steps = np.arange(len(COLOURS)) / (len(COLOURS) - 1)
    rgb = np.stack([np.interp(share, steps, channel) for channel in COLOURS.T], axis=2)  # (80, T, 3)
    return rgb.round().astype(np.uint8).repeat(BAND, axis=0).repeat(wide, axis=1)


def _place(hz: float) -> float:
    """Where a frequency lies among the bands, 0 .. 1."""
    filters = mel.filters()
    centres = filters @ np.linspace(0, mel.RATE_HZ / 2, filters.shape[1])
    return float(np.interp(hz, centres, (np.arange(mel.BANDS) + 0.5) / mel.BANDS))
