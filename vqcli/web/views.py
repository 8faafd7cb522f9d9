"""What results become: files to download, figures, and parts of pages to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image as Pillow

from vqcli.codec import video
from vqcli.evaluation import metrics
from vqcli.evaluation.image import rate_distortion
from vqcli.evaluation.speech.metrics import RATE_HZ, log_mel_correlation
from vqcli.files import size_text
from vqcli.media import audio, drawing, image, video_writing
from vqcli.media.image import MAX_PIXELS
from vqcli.pages import images, inline, recordings
from vqcli.pages.parts import Comparison, Film, Films, Image, Images, Part, Player, Players, Shot, Step
from vqcli.web.files import Facts, Stored
from vqcli.web.workspace import NAMED, Workspace, usual_format

MEASURED = 2**22  # pixels of an image at most whose MS-SSIM is measured, which takes a third of a second a megapixel
SHORTEST = RATE_HZ // 20  # samples of what has a spectrogram
REEL, REEL_SIDE, REEL_PIXELS = 48, 320, 16_000  # frames of a film, pixels of their width, and of all their heights
IN_BROWSERS = ("png", "jpg", "webp", "avif", "gif")


@dataclass(frozen=True)
class Shown:
    """Files by what they are, facts, and parts of the page."""

    files: dict[str, Facts]
    facts: dict[str, Any] = field(default_factory=dict)
    parts: Sequence[Part] = ()


def url(facts: Facts) -> str:
    """Of a file, from the page."""
    return f"api/files/{facts.id}"


def most_pixels(workspace: Workspace) -> int:
    """Of an image, as its reader takes it."""
    return min(workspace.limits.pixels or MAX_PIXELS, MAX_PIXELS)


# ---------------------------------------------------------------- images


def compared_image(
    workspace: Workspace, stored: Stored, encoded: Any, decoded: Any, commands: Sequence[str], took_s: float
) -> Shown:
    """An image beside what its file decodes to, both without loss."""
    pixels, size = encoded.pixels, len(encoded.data)
    height, width = pixels.shape[:2]
    key = stored.facts.id, f"{crc32(np.ascontiguousarray(pixels).data)}"  # the background is in the pixels
    source = workspace.files.once(key, lambda: workspace.add(_writing(pixels), "source", "png", "image"))
    made = workspace.add(lambda to, kind: decoded.save(to, format=kind), "decoded", "png", "image")
    name = encoded.header.model
    if width * height <= MEASURED:
        point = rate_distortion.measure(name, 0, "", pixels, decoded.pixels, size)
        cells = images.cells(point, took_s)
        likeness = {"psnr_db": point.psnr_db, "ms_ssim": point.ms_ssim}
    else:
        psnr_db, rate = metrics.psnr(pixels, decoded.pixels), metrics.bits_per_pixel(size, width, height)
        cells = size_text(size), f"{rate:.3f}", f"{psnr_db:.2f}", "–", f"{took_s:.2f} s"
        likeness = {"psnr_db": psnr_db}
    shot = Shot(name, url(made), width, height, cells)
    original = Shot(images.ORIGINAL, url(source), width, height)
    part = Comparison("the image", original, [Step("", [shot], commands)], images.COLUMNS)
    facts = {what: value if math.isfinite(value) else None for what, value in likeness.items()}
    return Shown({"source": source, "decoded": made}, {"width": width, "height": height} | facts, [part])


def decoded_image(workspace: Workspace, decoded: Any, format: str, size_bytes: int) -> Shown:
    (width, height), files = decoded.image.size, {}
    files["decoded"] = workspace.add(lambda to, kind: decoded.save(to, format=kind), "decoded", format, "image")
    shown = files["decoded"]
    if format not in IN_BROWSERS:
        shown = workspace.add(lambda to, kind: decoded.save(to, format=kind), "shown", "png", "image")
    caption = f"{width:,} x {height:,} pixels from {size_text(size_bytes)}"
    part = Images([Image(url(shown), width, height, "The decoded image", caption)], [_decoding(format)])
    return Shown(files, {"width": width, "height": height, "lossless": decoded.lossless}, [part])


def sampled_images(workspace: Workspace, made: Any, coded: Sequence[bytes], commands: Sequence[str]) -> Shown:
    """`made` is sampling.image.Samples."""
    each = len(made.pixels) // made.rows
    rows = [list(made.pixels[row * each : (row + 1) * each]) for row in range(made.rows)]
    names = [str(made.labels[row * each]) for row in range(made.rows)] if made.rows > 1 else None
    sheet = made.pixels[0] if len(made.pixels) == 1 else drawing.grid(rows, names)
    files = {"all": workspace.add(_writing(sheet), "samples", "png", "image")}
    shown = []
    for number, (pixels, label) in enumerate(zip(made.pixels, made.labels, strict=True), 1):
        one = workspace.add(_writing(pixels), f"sample-{number}", "png", "image")
        files[f"sample-{number}"] = one
        files[f"coded-{number}"] = workspace.add_vqz(coded[number - 1], "image", f"sample-{number}")
        alt = f"A sampled image of class {label}" if label else "A sampled image"
        shown.append(Image(url(one), pixels.shape[1], pixels.shape[0], alt, label or str(number)))
    return Shown(files, {"classes": list(made.labels)}, [Images(shown, commands, small=True)])


# ---------------------------------------------------------------- recordings


def compared_audio(
    workspace: Workspace, stored: Stored, encoded: Any, decoded: Any, commands: Sequence[str], took_s: float
) -> Shown:
    """A recording, mixed if its file is, and what that decodes to, at the rate of the recording."""
    mono = decoded.channels == 1

    def read() -> Facts:
        recording = audio.read(stored.open(), decoded.rate_hz, mono=mono, limits=workspace.limits)
        samples = np.asarray(recording.samples)
        write = "flac" if len(samples) <= 8 else "wav"
        return workspace.add(
            lambda to, kind: audio.write(to, samples, decoded.rate_hz, format=kind), "source", write, "audio"
        )

    source = workspace.files.once((stored.facts.id, f"{decoded.channels} channels"), read)
    made, players = spoken(workspace, iter([decoded.samples]), decoded.rate_hz, "wav", encoded.header.model, commands)
    files = {"source": source, "decoded": made}
    facts = {"length_s": round(decoded.length_s, 3), "rate_hz": decoded.rate_hz, "channels": decoded.channels}
    if not players:
        return Shown(files, facts)
    [before, after] = (
        audio.read(BytesIO(workspace.files.get(each.id).data), RATE_HZ, mono=True).samples[0]
        for each in (source, files["decoded"])
    )
    alike = float(log_mel_correlation(before, after))
    said = f"{size_text(len(encoded.data))}, {encoded.kbit_per_s:.2f} kbit/s, log-mel correlation {alike:.3f}"
    original = Player(
        images.ORIGINAL, url(source), recordings.spectrogram(before), f"{decoded.length_s:.1f} s", decoded.length_s
    )
    facts |= {"log_mel_correlation": alike if math.isfinite(alike) else None}
    return Shown(files, facts, [Players("the recording", [original, replace(players[0], facts=said)])])


def decoded_audio(workspace: Workspace, decoded: Any, format: str, size_bytes: int) -> Shown:
    made, players = spoken(workspace, decoded.blocks(), decoded.rate_hz, format, "decoded", [_decoding(format)])
    facts = {"length_s": round(decoded.length_s, 3), "rate_hz": decoded.rate_hz, "channels": decoded.channels}
    return Shown({"decoded": made}, facts, [Players("the recording", players)] if players else [])


def spoken(
    workspace: Workspace,
    blocks: Iterable[np.ndarray],
    rate_hz: int,
    format: str,
    name: str,
    commands: Sequence[str],
    file: str = "decoded",
) -> tuple[Facts, list[Player]]:
    """Blocks float32 [channels, n] as a file, and a player of it; none if it is too short to look at."""
    samples = np.concatenate(list(blocks), axis=1)
    made = workspace.add(lambda to, kind: audio.write(to, samples, rate_hz, format=kind), file, format, "audio")
    mixed = np.asarray(audio.from_samples(samples, rate_hz, RATE_HZ, mono=True).samples[0])
    seconds = samples.shape[1] / rate_hz
    if len(mixed) < SHORTEST:
        return made, []
    return made, [Player(name, url(made), recordings.spectrogram(mixed), f"{seconds:.1f} s", seconds, commands)]


def sampled_speech(workspace: Workspace, made: Any, coded: Sequence[bytes], commands: Sequence[str]) -> Shown:
    """`made` is sampling.speech.SpeechSamples."""
    files: dict[str, Facts] = {}
    players: list[Player] = []
    for number, (sound, name) in enumerate(zip(made.sounds, made.speakers, strict=True), 1):
        title, lines = f"{number}: {name}", commands if number == 1 else []
        file, own = spoken(workspace, iter([sound[None]]), made.rate_hz, "wav", title, lines, f"sample-{number}")
        files[f"sample-{number}"] = file
        files[f"coded-{number}"] = workspace.add_vqz(coded[number - 1], "audio", f"sample-{number}")
        players += own
    parts = [Players("sampled speech", players)] if players else []
    return Shown(files, {"speakers": list(made.speakers)}, parts)


# ---------------------------------------------------------------- clips


def compared_video(
    workspace: Workspace, stored: Stored, encoded: Any, decoded: Any, commands: Sequence[str], took_s: float
) -> Shown:
    """Frames of a clip and of what its file decodes to, in step."""
    shown = decoded_video(workspace, decoded, usual_format("video"), len(encoded.data), commands, encoded.header.model)
    reel = Reel(decoded.n_frames, decoded.width, decoded.height)
    with video.opened(stored.open(), limits=workspace.limits) as clip:
        for _ in reel.passing(clip.frames):
            pass
    [films] = shown.parts
    made = films.films[0]  # type: ignore[union-attr]
    before = Film(reel.strip(), made.width, made.height, "Frames of the clip", images.ORIGINAL)
    return Shown(shown.files, shown.facts, [Films("the clip", [before, made], len(reel.frames), reel.fps(decoded))])


def decoded_video(
    workspace: Workspace,
    decoded: Any,
    format: str,
    size_bytes: int,
    commands: Sequence[str] | None = None,
    name: str = "decoded",
) -> Shown:
    reel = Reel(decoded.n_frames, decoded.width, decoded.height)
    made = workspace.add(
        lambda to, kind: video_writing.write(
            to, reel.passing(decoded.frames()), decoded.frames_per_1000s, format=kind
        ),
        *("decoded", format, "video"),
    )  # fmt: skip
    caption = f"{name}: {size_text(size_bytes)}, {len(reel.frames)} of {decoded.n_frames} frames are shown"
    film = reel.film("Decoded frames of the clip", caption, [_decoding(format)] if commands is None else commands)
    facts = {"width": decoded.width, "height": decoded.height, "frames": decoded.n_frames}
    facts |= {"length_s": round(decoded.length_s, 3)}
    return Shown({"decoded": made}, facts, [Films("the clip", [film], len(reel.frames), reel.fps(decoded))])


def sampled_clips(workspace: Workspace, model: Any, made: Any, commands: Sequence[str]) -> Shown:
    """`made` is sampling.video.VideoSamples."""
    files, films = {}, []
    for number in range(1, len(made.codes) + 1):
        reel = Reel(made.n_frames, *made.size)
        stream = BytesIO()
        rate = round(1000 * video.RECORDED_PER_S)
        video_writing.write(stream, reel.passing(made.frames(number - 1)), rate, format="gif")
        files[f"sample-{number}"] = workspace.files.add(stream.getvalue(), f"sample-{number}.gif", "image/gif", "video")
        films.append(reel.film(f"Frames of sampled clip {number}", str(number), commands if number == 1 else []))
        count = len(reel.frames)
    return Shown(files, {"frames": made.n_frames}, [Films("sampled clips", films, count, video.RECORDED_PER_S)])


class Reel:
    """Some frames of a clip, small, taken as they pass by."""

    def __init__(self, count: int, width: int, height: int) -> None:
        scale = min(1.0, REEL_SIDE / width, REEL_SIDE / height)
        self.size = max(1, round(width * scale)), max(1, round(height * scale))
        shown = max(1, min(count, REEL, REEL_PIXELS // self.size[1]))
        self.wanted = set(np.linspace(0, count - 1, shown).round().astype(int).tolist())
        self.frames: list[np.ndarray] = []

    def passing(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, frame in enumerate(frames):
            if number in self.wanted:
                small = Pillow.fromarray(frame).resize(self.size, Pillow.Resampling.BOX)
                self.frames.append(np.asarray(small))
            yield frame

    def strip(self) -> str:
        return inline.strip(self.frames)

    def film(self, alt: str, caption: str, commands: Sequence[str]) -> Film:
        return Film(self.strip(), *self.size, alt, caption, commands)

    def fps(self, decoded: Any) -> float:
        """Frames a second at which the clip takes as long as it is."""
        return min(30.0, len(self.frames) / max(decoded.length_s, 0.01))


def _writing(pixels: np.ndarray) -> Callable[[BytesIO, str], None]:
    return lambda to, kind: image.write(to, pixels, format=kind)


def _decoding(format: str) -> str:
    return f"vq decode {NAMED} -o decoded.{format}"


COMPARED = {"image": compared_image, "audio": compared_audio, "video": compared_video}
DECODED = {"image": decoded_image, "audio": decoded_audio, "video": decoded_video}
