"""The spoken part of vq demo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vqcli.cli import console

TARGET = "p225"


@dataclass(frozen=True)
class Spoken:
    """What one step of the demo made: a name, bytes and kbit/s of its file, nearness to the clip, speed."""

    name: str
    size_bytes: int
    kbit_per_s: float
    log_mel_correlation: float | None
    times_real_time: float


def speak(output: Path, device: str) -> list[Spoken]:
    """Encode a clip, decode it with one level and with all, and give it another voice; results go into a folder."""
    import numpy as np

    from vqcli.codec import audio as codec_audio
    from vqcli.codec import audio_file, codes, conversion, windows
    from vqcli.container import vqz
    from vqcli.evaluation.speech import metrics, spectrograms
    from vqcli.media import audio, image
    from vqcli.zoo import loading, store

    clip = Path(__file__).parent.parent / "demo" / "talk.opus"
    model = loading.load(store.DEFAULTS["audio"], device)
    recording = audio.read(clip, model.net.rate_hz, mono=True)
    source = np.asarray(recording.samples[0])
    audio.write(output / "talk.wav", recording.samples, recording.rate_hz, force=True)
    encoded = codec_audio.encode(clip, model)
    rows, sounds = [], [("talk.wav", source)]
    with console.progress("speaking") as report:
        for level in sorted({1, model.net.levels}):
            kept = codes.keep_levels(model, encoded.audio, level)
            stem = f"talk-level-{level}" if level == 1 else f"talk-levels-{level}"
            header, payloads = audio_file.pack_audio(model, kept)
            size = vqz.write(output / f"{stem}.vqz", header, payloads, force=True)
            begun = time.perf_counter()
            decoded = codec_audio.decode(vqz.read(output / f"{stem}.vqz"), model)
            decoded.save(output / f"{stem}.wav", force=True)
            took = time.perf_counter() - begun
            made = decoded.samples[0]
            mono = np.asarray(audio.from_samples(made, decoded.rate_hz, model.net.rate_hz, mono=True).samples[0])
            near = metrics.log_mel_correlation(source, mono[: len(source)])
            rate = metrics.kbit_per_s(size, len(source), model.net.rate_hz)
            rows.append(Spoken(f"{stem}.wav", size, rate, near, decoded.length_s / took))
            sounds.append((f"{stem}.wav", mono))
            report(level / (model.net.levels + 1))
        begun = time.perf_counter()
        moved = conversion.convert(encoded.audio, TARGET, model)
        voice = np.concatenate(list(windows.decode_audio(model, moved)), 1)
        took = time.perf_counter() - begun
        audio.write(output / f"talk-as-{TARGET}.wav", voice, model.net.rate_hz, force=True)
        rows.append(
            Spoken(f"talk-as-{TARGET}.wav", rows[0].size_bytes, rows[0].kbit_per_s, None, moved.length_s / took)
        )
        sounds.append((f"talk-as-{TARGET}.wav", voice[0]))
    image.write(output / "talk.png", spectrograms.stacked(sounds), force=True)
    return rows
