"""vq demo"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import console, demo_page
from vqcli.cli.beside import beside
from vqcli.cli.options import RUNNING, Open, Running, command
from vqcli.cli.pictures import Shown, preview

if TYPE_CHECKING:
    from vqcli.evaluation.image.rate_distortion import Point
    from vqcli.pages.images import Coded
    from vqcli.pages.parts import Section

HERE = Path(__file__).parent.parent / "demo"  # what ships with vq
SETTINGS = (("photo-2", 2.0), ("photo-2", 5.0), ("photo-2", 9.0), ("tokens", None))
TARGET = "p225"
CLASSES, DRAWN, DRAW_SEED = ("fox", "zebra", "skunk", "sheep"), 4, 1
PAGE = "index.html"
SHOWN = ("original.png", "photo-2-q5.png", "tokens-codes.png")  # in the terminal
MAZE, MAZE_FRAMES, MAZE_SCALE, MAZE_SEED, MAZE_TEMPERATURE = "doom", 10, 3, 1, 0.8

Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]


@command
def demo(
    output: Folder = Path("vq-demo"), opened: Open = False, show: Shown = True, running: Running = RUNNING
) -> None:
    """Encode a photograph and a spoken sentence that ship with vq, show what they cost, and go on from a clip: the
    first thing to try.

    \b
    vq demo
    vq demo --open
    vq demo -o somewhere/
    """
    from vqcli.errors import UsageError
    from vqcli.files import make_folder
    from vqcli.pages import page

    if output.exists() and not running.force and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{output} is there already, and not empty", "--force replaces what the demo writes, -o goes elsewhere"
        )
    make_folder(output)
    with beside(_speak_draw_walk, output, running.device) as rest:
        points, pictures = photograph(output, running.device)
        spoken, others = rest()
    page.write(demo_page.of([*pictures, *others]), output / PAGE, force=True)
    if opened:
        console.open_page(output / PAGE)
    if running.as_json:
        console.emit_json([*map(asdict, points), *map(asdict, spoken)])
        return
    _table_of_images(points)
    _table_of_speech(spoken)
    if show:
        preview(output / name for name in SHOWN)
    console.say(f"Open {output / PAGE} in a browser: everything on one page.")
    console.say(
        f"Look at {output / 'side-by-side.png'} and {output / 'talk.png'}, and listen to the .wav files beside them."
    )
    console.say(
        f"In {output / 'maze.png'} and its GIFs six frames of a maze are given, and ten sampled of what happens next."
    )


def _speak_draw_walk(output: Path, device: str) -> tuple[list[Spoken], list[Section]]:
    """All but the photograph, which takes about as long."""
    spoken, sounds = speak(output, device)
    return spoken, [*sounds, *draw(device), *walk(output, device)]


def photograph(output: Path, device: str) -> tuple[list[Point], list[Section]]:
    """Encode and decode the photograph at several settings, with JPEG at no more bytes, and AVIF on the page; results
    go to a folder."""
    from vqcli.media import drawing, image
    from vqcli.pages import images
    from vqcli.zoo import loading

    original = image.read(HERE / "parrots.webp").pixels
    image.write(output / "original.png", original, force=True)
    points: list[Point] = []
    pictures, labels = [original], ["original"]
    models = {name: loading.load(name, device) for name, _ in SETTINGS}
    rows: list[list[Coded]] = []
    with console.progress("encoding and decoding") as progress:
        for done, (name, quality) in enumerate(SETTINGS):
            stem = f"{name}-q{quality:g}" if quality else name
            own = images.by_model(original, models[name], quality, "parrots")
            encoded = own.encoded
            assert encoded is not None
            encoded.save(output / f"{stem}.vqz", force=True)
            image.write(output / f"{stem}.png", own.pixels, force=True)
            # the page compares the rates with AVIF too
            codecs = ("JPEG", "AVIF") if quality else ("JPEG",)
            others = [images.at_bytes(original, codec, len(encoded.data), "parrots") for codec in codecs]
            points += [own.point, replace(others[0].point, quality=quality or 0)]
            rows.append([own, *others])
            pictures.append(own.pixels)
            if name == "tokens":
                colours = drawing.codes_image(encoded.codes[0], encoded.header.codebook_sizes[0], scale=4)
                image.write(output / "tokens-codes.png", colours, force=True)
            labels.append(
                f"{stem}: {console.size(len(encoded.data))}, {own.point.bits_per_pixel:.2f} bpp,"
                f" {own.point.psnr_db:.1f} dB"
            )
            progress((done + 1) / len(SETTINGS))
    crop = (slice(40, 360), slice(180, 500))  # at full scale: five whole images in a row show nothing
    row = drawing.side_by_side([picture[crop] for picture in pictures], labels)
    image.write(output / "side-by-side.png", row, force=True)
    return points, demo_page.of_images(output, original, rows, colours)


@dataclass(frozen=True)
class Spoken:
    """What one step of the demo made: a name, bytes and kbit/s of its file, nearness to the clip, speed."""

    name: str
    size_bytes: int
    kbit_per_s: float
    log_mel_correlation: float | None
    times_real_time: float


def speak(output: Path, device: str) -> tuple[list[Spoken], list[Section]]:
    """Encode a clip, decode it with one level and with all, and give it another voice; results go into a folder."""
    import numpy as np

    from vqcli.codec import audio as codec_audio
    from vqcli.codec import audio_file, codes, conversion, windows
    from vqcli.container import vqz
    from vqcli.evaluation.speech import metrics, spectrograms
    from vqcli.media import audio, image
    from vqcli.zoo import loading, store

    clip = HERE / "talk.opus"
    model = loading.load(store.DEFAULTS["audio"], device)
    recording = audio.read(clip, model.net.rate_hz, mono=True)
    source = np.asarray(recording.samples[0])
    audio.write(output / "talk.wav", recording.samples, recording.rate_hz, force=True)
    encoded = codec_audio.encode(clip, model)
    rows, sounds = [], [("talk.wav", source)]
    with console.progress("speaking") as progress:
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
            progress(level / (model.net.levels + 1))
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
    facts = [f"{clip.stat().st_size / 1000:.1f} kB as Opus"]
    facts += [f"{console.size(row.size_bytes)}, {row.kbit_per_s:.2f} kbit/s" for row in rows]
    return rows, demo_page.of_speech(output, TARGET, [(*made, said) for made, said in zip(sounds, facts, strict=True)])


def draw(device: str) -> list[Section]:
    """New pictures by class, for the page."""
    from vqcli.sampling import image as sampling
    from vqcli.zoo import loading

    model = loading.load("tokens", device)
    with console.progress("sampling") as progress:
        samples = sampling.sample(model, labels=CLASSES, count=DRAWN, seed=DRAW_SEED, progress=progress)
    return demo_page.of_samples(samples.pixels, CLASSES, DRAWN, DRAW_SEED)


def walk(output: Path, device: str) -> list[Section]:
    """Go on from a clip of a maze by each of the actions that the model knows; results go into a folder: a GIF for each
    action, and an image of all frames."""
    import numpy as np

    from vqcli.codec import video
    from vqcli.media import drawing, image, video_writing
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.video import prior_of, sample_video
    from vqcli.zoo import loading

    model = loading.load(MAZE, device)
    prior = prior_of(model)
    start = video.codes_of(HERE / "maze.webp", model)
    (output / "maze.webp").write_bytes((HERE / "maze.webp").read_bytes())
    rows = []
    with console.progress("walking") as progress:
        for done, action in enumerate(prior.classes):
            drawn = sample_video(
                model,
                start=start.codes,
                frames=MAZE_FRAMES,
                actions=[action],
                seed=MAZE_SEED,
                sampling=Sampling(MAZE_TEMPERATURE),
            )
            frames = drawn.pixels(0)
            rows.append(list(frames))
            large = (np.kron(frame, np.ones((MAZE_SCALE, MAZE_SCALE, 1), np.uint8)) for frame in frames)
            video_writing.write(output / f"maze-{action}.gif", large, start.frames_per_1000s, force=True)
            progress((done + 1) / len(prior.classes))
    image.write(output / "maze.png", drawing.grid(rows, list(prior.classes)), force=True)
    given = len(rows[0]) - MAZE_FRAMES
    facts = demo_page.Walk(MAZE_FRAMES, MAZE_SEED, MAZE_TEMPERATURE, given, start.frames_per_1000s / 1000)
    return demo_page.of_video(output, dict(zip(prior.classes, rows, strict=True)), facts)


def _table_of_images(points: list[Point]) -> None:
    models = {name for name, _ in SETTINGS}
    console.emit_table(
        ("codec", "quality", "file", "bits/pixel", "PSNR dB", "MS-SSIM"),
        [
            (
                p.codec if p.codec in models else "  JPEG at no more bytes",
                f"{p.quality:g}" if p.quality and p.codec in models else "–",
                console.size(p.size_bytes),
                f"{p.bits_per_pixel:.3f}",
                f"{p.psnr_db:.2f}",
                f"{p.ms_ssim:.4f}",
            )
            for p in points
        ],
        title="parrots, a photograph of the Kodak set",
    )


def _table_of_speech(spoken: list[Spoken]) -> None:
    console.emit_table(
        ("sound", "file", "kbit/s", "log-mel correlation", "x real time"),
        [
            (
                row.name,
                console.size(row.size_bytes),
                f"{row.kbit_per_s:.2f}",
                f"{row.log_mel_correlation:.3f}" if row.log_mel_correlation is not None else "–",
                f"{row.times_real_time:.0f}",
            )
            for row in spoken
        ],
        title="a spoken sentence, one level of codes, all of them, and another voice",
    )
