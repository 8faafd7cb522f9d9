"""The part of vq demo that moves."""

from __future__ import annotations

from pathlib import Path

from vqcli.cli import console

MODEL, FRAMES, SCALE = "doom", 10, 3
SEED, TEMPERATURE = 1, 0.8


def walk(output: Path, device: str) -> list[str]:
    """Go on from a clip of a maze by each of the actions that the model knows; results go into a folder. Returns their
    names: a GIF for each action, and a picture of all frames."""
    import numpy as np

    from vqcli.codec import video
    from vqcli.media import drawing, image, video_writing
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.video import prior_of, sample_video
    from vqcli.zoo import loading

    model = loading.load(MODEL, device)
    prior = prior_of(model)
    start = video.codes_of(Path(__file__).parent.parent / "demo" / "maze.webp", model)
    rows, written = [], []
    with console.progress("walking") as report:
        for done, action in enumerate(prior.classes):
            drawn = sample_video(
                model, start=start.codes, frames=FRAMES, actions=[action], seed=SEED, sampling=Sampling(TEMPERATURE)
            )
            frames = drawn.pixels(0)
            rows.append(list(frames))
            written.append(f"maze-{action}.gif")
            large = (np.kron(frame, np.ones((SCALE, SCALE, 1), np.uint8)) for frame in frames)
            video_writing.write(output / written[-1], large, start.frames_per_1000s, force=True)
            report((done + 1) / len(prior.classes))
    image.write(output / "maze.png", drawing.grid(rows, list(prior.classes)), force=True)
    return [*written, "maze.png"]
