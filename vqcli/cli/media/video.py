"""What commands ask and say of clips."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.media.image import Background, Quality
from vqcli.cli.options import Request

if TYPE_CHECKING:
    from vqcli.api import DecodedVideo, EncodedVideo
    from vqcli.container.vqz import Header
    from vqcli.zoo.loading import LoadedModel

PLURAL = "clips"
PRIOR, SAMPLE = "frames", Path("sample.gif")
LOST = "clip is lost, and grey"


@dataclass(frozen=True)
class EncodeOptions:
    quality: Quality = None
    background: Background = None
    frames_per_s: Annotated[
        float | None,
        typer.Option(
            "--fps", help="Frames per second of folders of frames, and of episodes.", show_default="25, episodes 10"
        ),
    ] = None


@dataclass(frozen=True)
class SampleOptions:
    frames: Annotated[
        int | None, typer.Option(help="Frames of new video.", min=1, show_default="10, or one for each action")
    ] = None
    actions: Annotated[
        str | None,
        typer.Option(help="What is done in the video: 'forward*5 left*2', or one for all.", show_default=False),
    ] = None


def suffix() -> str:
    from vqcli.media import video

    if not video.available():
        console.say(f"a clip becomes a .gif here; .mp4 needs an extra: {video.EXTRA}")
        return ".gif"
    return ".mp4"


def line(result: EncodedVideo, took_s: float) -> str:
    each = f"{len(result.data) / result.n_frames:.0f} bytes a frame"
    quality = f", quality {result.header.quality / 10:g}" if result.header.quality else ""
    frames = console.plural(result.n_frames, "frame")
    return f"{frames}, {result.length_s:.2f} s, {result.kbit_per_s:.2f} kbit/s, {each}{quality}"


def facts(result: EncodedVideo, took_s: float) -> dict[str, Any]:
    return {
        "frames": result.n_frames,
        "length_s": result.length_s,
        "kbit_per_s": result.kbit_per_s,
        "bits_per_pixel": result.bits_per_pixel,
        "took_s": took_s,
    }


def decoded_line(result: DecodedVideo, took_s: float) -> tuple[str, dict[str, Any]]:
    frames = f"{console.plural(result.n_frames, 'frame')}, {result.frames_per_s:g} a second"
    said = f"{result.width} x {result.height}, {frames}, {console.speed(result.length_s, took_s)}"
    return said, {
        "width": result.width,
        "height": result.height,
        "frames": result.n_frames,
        "frames_per_s": result.frames_per_s,
        "length_s": result.length_s,
        "took_s": took_s,
    }


def remarks(result: DecodedVideo, format: str, salvage: bool) -> list[str]:
    return []


def header_facts(header: Header, size_bytes: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    width, height, frames, frames_per_1000s = header.size
    length_s = 1000 * frames / frames_per_1000s
    return {
        "width": width,
        "height": height,
        "frames": frames,
        "frames_per_s": frames_per_1000s / 1000,
        "length_s": round(length_s, 3),
        "kbit_per_s": round(8 * size_bytes / length_s / 1000, 4),
        "bytes_a_frame": round(size_bytes / frames, 2),
        "bits_per_pixel": round(8 * size_bytes / (width * height * frames), 4),
        "frames_a_chunk": (header.chunk or header.grid)[0],
    }


def verify(
    result: EncodedVideo, decoded: DecodedVideo, source: Path, options: EncodeOptions
) -> tuple[str, dict[str, Any]]:
    import numpy as np

    from vqcli.codec import video
    from vqcli.evaluation import metrics

    background = options.background or "white"
    with video.opened(source, frames_per_s=options.frames_per_s, background=background) as clip:
        errors = [metrics.mse(a, b) for a, b in zip(clip.frames, decoded.frames(), strict=True)]
    psnr_db = 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-10))
    return f"verified: every code is equal, PSNR {psnr_db:.2f} dB over {console.plural(len(errors), 'frame')}", {
        "psnr_db": psnr_db
    }


def verify_decoded(result: DecodedVideo, target: Path) -> tuple[str, dict[str, Any]]:
    from vqcli.cli.media import codes_verified

    return codes_verified(bool(result.lost.any()))


def sample(model: LoadedModel, target: Path, options: SampleOptions, request: Request) -> list[dict[str, Any]]:
    from vqcli.codec import video
    from vqcli.errors import UsageError
    from vqcli.sampling.video import parse_actions, sample_video, start_of

    if request.prior not in (None, PRIOR):
        raise UsageError(f"--prior {request.prior} is no prior over video", f"--prior {PRIOR} is")
    actions = parse_actions(options.actions) if options.actions else []
    given, rate, count = None, video.RECORDED_PER_S, request.count or 1
    if request.start is not None:
        with console.progress(f"encoding {request.start.name}") as progress:
            clip = start_of(model, request.start)
            progress(1.0)
        given, rate = clip.codes, clip.frames_per_1000s / 1000
    begun = time.perf_counter()
    with console.progress(f"sampling from {model.info.name}") as progress:
        made = sample_video(
            model,
            start=given,
            frames=options.frames,
            actions=actions,
            count=count,
            seed=request.seed,
            sampling=request.sampling,
            progress=progress,
        )
    took = time.perf_counter() - begun
    written = made.save(target, frames_per_s=rate, force=request.force)
    each = made.codes.shape[2] - made.given
    of = f", {made.given} given before" if made.given else ""
    console.say(
        f"{console.plural(count, 'clip')} of {console.plural(each, 'frame')}{of} -> {target} "
        f"(model {model.info.name}, seed {request.seed}, {took / (count * each):.2g} s a frame)"
    )
    facts = {"given": made.given, "frames": each, "actions": list(made.actions), "seed": request.seed}
    return [{"file": str(path), **facts} for path in written]


def check_target(target: Path) -> None:
    """Any suffix may do: writing says what is wrong."""
