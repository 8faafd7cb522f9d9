"""Video from a prior, in the latent space alone: what `vq sample --frames` does, for callers in Python.

start = start_of(model, "clip.mp4")
sampled = sample_video(model, start=start.codes, actions=["forward"] * 10, seed=1)      sampled.codes, sampled.pixels(0)

Frame after frame is sampled as codes, given those before and the actions; pixels are made at the end (the paper, 4.4).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from vqcli.codec import tiling, video, video_file
from vqcli.codec.codes import ImageCodes, VideoCodes
from vqcli.container import vqz
from vqcli.errors import ModelError, UsageError
from vqcli.files import numbered
from vqcli.media import drawing, video_writing
from vqcli.media import image as stills
from vqcli.media.image import MAX_PIXELS
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling, in_batches
from vqcli.nets.priors.frames import CONTEXT, MISSING, UNKNOWN, FramePrior
from vqcli.nets.priors.pixelcnn_sampler import sampler_of
from vqcli.progress import ProgressCallback, Running, silent
from vqcli.sampling import image
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

FAMILY = "frames"
FRAMES = 10  # sampled, unless the actions or the user say how many
MOST_FRAMES = 10_000


@dataclass(frozen=True)
class VideoSamples:
    """Clips that were sampled, or went on from one.

    codes    uint16 [N, groups, given + T, rows, columns]: the frames that were given, and those sampled
    given    how many were given
    actions  what was done before each of the T sampled frames, () if that was not said
    seed     equal seeds give equal clips on the same device; clip i does not depend on how many there are
    """

    codes: np.ndarray
    given: int
    actions: tuple[str, ...]
    seed: int
    size: tuple[int, int]  # width and height in pixels
    _model: LoadedModel = field(repr=False)

    @property
    def n_frames(self) -> int:
        """Of each clip, those that were given included."""
        return self.codes.shape[2]

    def frames(self, index: int = 0) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] of one clip, one after the other."""
        tiles = tiling.tiles_of(self._model.image, *self.size[::-1])
        for codes in self.codes[index].swapaxes(0, 1):
            yield tiling.decode_image(self._model, ImageCodes(codes, self.size, 3, 0, tiles))

    def pixels(self, index: int) -> np.ndarray:
        """uint8 [given + T, H, W, 3] of one clip."""
        return np.stack(list(self.frames(index)))

    def save(
        self, target: str | Path, *, frames_per_s: float = video.RECORDED_PER_S, force: bool = False
    ) -> list[Path]:
        """Write them, and return the file of each: a folder gets a clip each, .vqz files of codes, an image a row of
        frames for each clip, a video all side by side."""
        target, count, rate = Path(target), len(self.codes), round(1000 * frames_per_s)
        suffix = target.suffix.lower()
        if suffix == ".vqz":
            paths = numbered(target, [""] * count, suffix, force)
            for index, path in enumerate(paths):
                tiles = tiling.tiles_of(self._model.image, *self.size[::-1])
                codes = VideoCodes(self.codes[index], self.size, rate, tiles=tiles)
                facts = {"drawn_from": FAMILY, "seed": str(self.seed), "sample": str(index)}
                vqz.write(path, *video_file.pack_video(self._model, codes, metadata=facts), force=force)
            return paths
        clips = [self.pixels(index) for index in range(count)]
        if suffix in video_writing.KNOWN:
            side_by_side = np.concatenate(clips, axis=2) if count > 1 else clips[0]
            video_writing.write(target, iter(side_by_side), rate, force=force)
            return [target] * count
        if suffix:  # an image
            single = clips[0][0] if count * len(clips[0]) == 1 else drawing.grid(_rows(clips))
            stills.write(target, single, force=force)
            return [target] * count
        paths = numbered(target, [""] * count, ".gif", force)
        for path, clip in zip(paths, clips, strict=True):
            video_writing.write(path, iter(clip), rate, force=force)
        return paths


def find_model() -> store.ModelInfo:
    """The model to sample video with when none is named: the first that has a prior over frames."""
    return priors.model_with(FAMILY, "vq train doom-video --codec MODEL trains one")


def context_of(model: LoadedModel) -> int:
    """How many frames the prior of a model looks at. Raises ModelError if it has none over frames."""
    context: int = prior_of(model).description["arguments"].get("context", CONTEXT)
    return context


def size_of(model: LoadedModel) -> tuple[int, int]:
    """Width and height of the frames that the prior of a model knows, in pixels."""
    info = prior_of(model)
    size = info.description.get("frame_size", image.size_of(info))
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise ModelError(f"{info.path} does not say of what size its frames are")
    height, width = size
    return width, height


def start_of(model: LoadedModel, source: str | Path) -> VideoCodes:
    """Codes of the last frames of a clip or of a .vqz file of one, as many as the prior of a model looks at.

    Raises ModelError if it has none over frames, BadFile, and UsageError for frames of another size than it knows.
    """
    source, wanted = Path(source), size_of(model)
    if source.suffix.lower() != ".vqz":
        with video.opened(source) as clip:  # which may be long: look at its size before its frames
            _check_size(model, source, (clip.width, clip.height), wanted)
    codes = video.codes_of(source, model, most_frames=context_of(model), last=True)
    _check_size(model, source, codes.size, wanted)
    return codes


def _check_size(model: LoadedModel, source: Path, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    if size != wanted:
        knows = f"model {model.info.name} goes on from frames of {wanted[0]} x {wanted[1]} pixels"
        raise UsageError(f"{knows}, and those of {source} are {size[0]} x {size[1]}", "resize the clip first")


def prior_of(model: LoadedModel) -> PriorInfo:
    """The prior over video of a model. Raises ModelError if it has none."""
    info = priors.find(model.info, FAMILY)
    if info is None:
        raise ModelError(
            f"model {model.info.name} has no prior over video", f"vq train doom-video --codec {model.info.name}"
        )
    return info


def sample_video(
    model: str | LoadedModel,
    *,
    start: np.ndarray | str | Path | None = None,
    frames: int | None = None,
    actions: Sequence[str] = (),
    count: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    **running: Unpack[Running],
) -> VideoSamples:
    """Sample `count` clips of `frames` frames that go on from a start, or come out of nothing.

    start     a clip or a .vqz file of one, or its codes uint16 [groups, T, rows, columns]; the last frames count
    frames    how many to sample; None for one after each action, or FRAMES of them
    actions   what is done before each of them, one for all or one for each; () lets the prior choose
    sampling  None for the temperature that the prior's file asks for

    Raises ModelError if the model has no prior over frames, UnknownLabel for an action it does not know, UsageError for
    what does not fit together: a start that is shorter than what the prior looks at, or of another size.
    """
    if isinstance(model, str):
        model = loading.load(model, running.get("device", "auto"))
    if isinstance(start, str | Path):
        start = start_of(model, start).codes
    info, progress = prior_of(model), running.get("progress", silent)
    frames, actions = _length(frames, actions)
    numbers = [info.label_of(name) for name in actions]
    net, sampling = priors.load_frames(info, model.device), sampling or priors.sampling(info)
    if sampling.guidance != 1 and not (net.actions and actions):
        raise UsageError("guidance strengthens actions, and there are none", "leave --guidance out, or give --actions")
    width, height = size_of(model)
    grid, groups = model.net.grid(height, width), len(net.codebook_sizes)
    if count < 1 or count * (frames + net.context) * height * width > MAX_PIXELS:
        raise UsageError(f"{count} clips of {frames} frames are too many or too few to sample")
    N, given = net.context, 0 if start is None else net.context
    before = np.full((count, groups, N, *grid), MISSING, np.int64)
    done = np.full((count, N - 1 + frames), UNKNOWN, np.int64)
    if start is not None:
        _check_start(model, net, start, grid)
        before[:] = start[:, -N:]
    if numbers:  # nothing is done before a first frame
        first = N - 1 if given else N
        done[:, first:] = numbers[first - N + 1 :]
    uniforms = np.stack([np.random.default_rng([seed, n]).random((frames, groups, *grid)) for n in range(count)])
    sampled = sample_frames(net, before, done, uniforms, sampling, progress)
    codes = np.concatenate([before[:, :, N - given :], sampled], 2).astype(np.uint16)
    return VideoSamples(codes, given, tuple(actions), seed, (width, height), model)


@torch.inference_mode()
def sample_frames(
    net: FramePrior,
    before: np.ndarray,
    actions: np.ndarray,
    uniforms: np.ndarray,
    sampling: Sampling = AS_LEARNED,
    progress: ProgressCallback = silent,
) -> np.ndarray:
    """Codes int64 [B, groups, T, rows, columns] of frames that follow those before, all clips side by side.

    before    int64 [B, groups, N, rows, columns], as many as the prior looks at; MISSING where there is none
    actions   int64 [B, N - 1 + T], what was done after each frame but the last of all; UNKNOWN where not known
    uniforms  float64 [B, T, groups, rows, columns] in 0 .. 1 (excluded)
    """
    (B, T), N, device = uniforms.shape[:2], net.context, next(net.parameters()).device
    codes, shape = before, uniforms.shape[2:]
    sampler, empty = sampler_of(net.decoder), np.zeros((B, *shape), np.int64)
    for t in range(T):
        window = torch.from_numpy(codes[:, :, t:]).to(device)
        done = torch.from_numpy(actions[:, t : t + N]).to(device)
        maps = [net.condition(window, done)]
        if sampling.guidance != 1:
            maps.append(net.condition(window, torch.full_like(done, UNKNOWN)))

        def so_far(share: float, t: int = t) -> None:
            progress((t + share) / T)

        condition, keep = torch.cat(maps).cpu().numpy(), np.zeros(empty.shape, bool)
        frame = in_batches(sampler, empty, keep, uniforms[:, t], None, sampling, so_far, condition)
        codes = np.concatenate([codes, frame[:, :, None]], 2)
    return codes[:, :, N:]


def _rows(clips: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Clips as rows of frames; single frames in a square."""
    if len(clips[0]) > 1:
        return [list(clip) for clip in clips]
    wide = round(len(clips) ** 0.5 + 0.49)
    frames = [clip[0] for clip in clips]
    return [frames[row : row + wide] for row in range(0, len(frames), wide)]


def parse_actions(text: str) -> list[str]:
    """'forward*5 left*2, forward' -> eight names. Raises UsageError for what is none."""
    actions: list[str] = []
    for part in re.split(r"[\s,]+", text.strip()):
        found = re.fullmatch(r"([^\s,*]+)(?:\*(\d{1,5}))?", part)
        if not found:
            raise UsageError(f"--actions {text} cannot be read", "as in --actions 'forward*5 left*2'")
        actions += [found[1]] * int(found[2] or 1)
    if not 1 <= len(actions) <= MOST_FRAMES:
        raise UsageError(f"{len(actions)} actions are too many or too few", f"1 to {MOST_FRAMES:,}")
    return actions


def _length(frames: int | None, actions: Sequence[str]) -> tuple[int, list[str]]:
    """The number of frames, and an action for each or none at all."""
    if frames is None:
        frames = len(actions) if len(actions) > 1 else FRAMES
    if not 1 <= frames <= MOST_FRAMES:
        raise UsageError(f"{frames} frames are too many or too few", f"1 to {MOST_FRAMES:,}")
    if len(actions) == 1:
        return frames, [*actions] * frames
    if actions and len(actions) != frames:
        raise UsageError(f"{frames} frames and {len(actions)} actions", "one action for each frame, or one for all")
    return frames, [*actions]


def _check_start(model: LoadedModel, net: FramePrior, start: np.ndarray, grid: tuple[int, int]) -> None:
    if start.shape[0] != len(net.codebook_sizes) or start.shape[2:] != grid:
        rows, columns = (side * model.net.stride for side in grid)
        height, width = (side * model.net.stride for side in start.shape[2:])
        wanted = f"model {model.info.name} goes on from frames of {columns} x {rows} pixels"
        raise UsageError(f"{wanted}, and these are {width} x {height}", "resize the clip first")
    if start.shape[1] < net.context:
        raise UsageError(
            f"too short a clip: model {model.info.name} looks at {net.context} frames, and it has {start.shape[1]}",
            "give a longer clip, or none at all",
        )
