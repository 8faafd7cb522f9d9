"""What vq sample does where a model draws video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.cli import console

if TYPE_CHECKING:
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.video import VideoSamples
    from vqcli.zoo.loading import LoadedModel


def sample_video(
    model: LoadedModel,
    target: Path,
    *,
    start: Path | None,
    frames: int | None,
    actions: str | None,
    count: int,
    seed: int,
    sampling: Sampling,
    force: bool,
) -> list[dict[str, Any]]:
    """Draw clips, write them, and say what was written.

    A folder gets a clip each; a picture shows each clip as a row of its frames; anything else holds all clips, in .vqz
    files one each, in a video side by side.
    """
    from vqcli.codec import video
    from vqcli.sampling.video import parse_actions, sample_video, start_of

    told = parse_actions(actions) if actions else []
    given, rate_mhz = None, round(1000 * video.RECORDED_PER_S)
    if start is not None:
        with console.progress(f"encoding {start.name}") as report:
            clip = start_of(model, start)
            report(1.0)
        given, rate_mhz = clip.codes, clip.rate_mhz
    begun = time.perf_counter()
    with console.progress(f"drawing with {model.info.name}") as report:
        drawn = sample_video(
            model, start=given, frames=frames, actions=told, count=count, seed=seed, sampling=sampling, report=report
        )
    took = time.perf_counter() - begun
    written = _write(drawn, model, target, rate_mhz, force)
    each = drawn.codes.shape[2] - drawn.given
    of = f", {drawn.given} given before" if drawn.given else ""
    console.say(
        f"{console.plural(count, 'clip')} of {console.plural(each, 'frame')}{of} -> {target} "
        f"(model {model.info.name}, seed {seed}, {took / (count * each):.2g} s a frame)"
    )
    return [
        {"file": str(path), "given": drawn.given, "frames": each, "actions": list(drawn.actions), "seed": seed}
        for path in written
    ]


def _write(drawn: VideoSamples, model: LoadedModel, target: Path, rate_mhz: int, force: bool) -> list[Path]:
    """The file of each clip."""
    import numpy as np

    from vqcli.codec import video_file
    from vqcli.codec.codes import VideoCodes
    from vqcli.container import vqz
    from vqcli.files import refuse_existing
    from vqcli.media import drawing, image, video_writing

    count = len(drawn.codes)
    numbered = [f"{index + 1:03}" for index in range(count)]
    suffix = target.suffix.lower()
    if suffix == ".vqz":
        paths = [target] if count == 1 else [target.with_name(f"{target.stem}-{name}.vqz") for name in numbered]
        for path in paths:
            refuse_existing(path, force)
        for index, path in enumerate(paths):
            codes = VideoCodes(drawn.codes[index], drawn.size, rate_mhz)
            facts = {"drawn_from": "frames", "seed": str(drawn.seed), "sample": str(index)}
            vqz.write(path, *video_file.pack_video(model, codes, metadata=facts), force=force)
        return paths
    clips = [drawn.pixels(index) for index in range(count)]
    if suffix in video_writing.KNOWN:
        beside = np.concatenate(clips, axis=2) if count > 1 else clips[0]
        video_writing.write(target, iter(beside), rate_mhz, force=force)
        return [target] * count
    if suffix:  # a picture
        single = clips[0][0] if count * len(clips[0]) == 1 else drawing.grid(_rows(clips))
        image.write(target, single, force=force)
        return [target] * count
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{name}.gif" for name in numbered]
    for path in paths:
        refuse_existing(path, force)
    for path, clip in zip(paths, clips, strict=True):
        video_writing.write(path, iter(clip), rate_mhz, force=force)
    return paths


def _rows(clips: list[Any]) -> list[list[Any]]:
    """Clips as rows of frames; single frames in a square."""
    if len(clips[0]) > 1:
        return [list(clip) for clip in clips]
    wide = round(len(clips) ** 0.5 + 0.49)
    frames = [clip[0] for clip in clips]
    return [frames[row : row + wide] for row in range(0, len(frames), wide)]
