"""A recording through codecs, as players to listen to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from vqcli.evaluation.speech import spectrograms
from vqcli.evaluation.speech.coding import SOURCE, Point
from vqcli.evaluation.speech.metrics import RATE_HZ
from vqcli.files import size_text
from vqcli.pages import inline
from vqcli.pages.parts import Player, Players, curve

WIDEST = 2400  # pixels of a spectrogram


def player(name: str, samples: np.ndarray, facts: str, commands: Sequence[str] = ()) -> Player:
    """Of a waveform, mono float [N] at 16 kHz."""
    uri = inline.recording(samples, RATE_HZ)
    return Player(name, uri, spectrogram(samples), facts, len(samples) / RATE_HZ, commands)


def spectrogram(samples: np.ndarray) -> str:
    """Of a waveform, mono float [N] at 16 kHz; of a long one no wider than a page shows."""
    pixels = spectrograms.picture(samples)
    if pixels.shape[1] > WIDEST:
        pixels = np.asarray(Image.fromarray(pixels).resize((WIDEST, len(pixels)), Image.Resampling.BOX))
    return inline.photograph(pixels)


def compared(
    name: str,
    points: Sequence[Point],
    waveforms: dict[str, np.ndarray],
    commands: Callable[[Point], Sequence[str]],
) -> Players:
    """Players of a clip and of what became of it; `points` and `waveforms` as `coding.evaluate` has them."""
    from dataclasses import replace

    lines: dict[str, list[tuple[float, float]]] = {}
    players = []
    for point, (title, samples) in zip(points, waveforms.items(), strict=True):
        if point.codec == SOURCE:
            players.append(player(title, samples, f"{point.seconds:.1f} s, {size_text(point.size_bytes)}"))
            continue
        facts = f"{size_text(point.size_bytes)}, {point.kbit_per_s:.2f} kbit/s"
        at: tuple[tuple[float, float], ...] = ()
        if point.log_mel_correlation is not None:
            facts += f", log-mel correlation {point.log_mel_correlation:.3f}"
            at = ((point.kbit_per_s, point.log_mel_correlation),)
            lines.setdefault(point.codec, []).append(at[0])
        players.append(replace(player(title, samples, facts, commands(point)), codec=point.codec, at=at))
    curves = [curve("Nearness to the source", "kbit/s", "log-mel correlation", lines)] if lines else []
    return Players(name, players, curves)
