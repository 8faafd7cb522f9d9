"""Measurements of coded frames of a recording: one stage (the paper, 4.2, figure 4), or two (figure 5).

windows = load_windows(Path("boxing/"), 500, length_of(model))
costs(model, windows)       bits for a code under each coder and prior
latents(model, windows)     of two stages: whether latents are used, and whether decoded frames match their originals

All of it is on held-out episodes. "Another" frame or window is the one half of their number further on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vqcli.codec import image_file, tiling
from vqcli.codec.codes import books
from vqcli.data import recordings, split
from vqcli.data.crops import rgb
from vqcli.errors import UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.image import rate_distortion
from vqcli.evaluation.image.rate_distortion import CodeCost, Point
from vqcli.evaluation.video import boxing
from vqcli.evaluation.video.boxing import Places
from vqcli.nets.layers.convnet2d import from_pixels, in_channels, to_pixels
from vqcli.nets.priors.frames import CONTEXT, MISSING, UNKNOWN, FramePrior
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

BATCH = 32
USUAL = ("WebP", "JPEG")
PIXELCNN = "pixelcnn prior"
BEFORE, NO_ACTIONS, OTHER_ACTIONS, NOTHING = (
    "frames prior, frames before and actions",
    "frames prior, frames before alone",
    "frames prior, actions of another window",
    "frames prior, nothing before",
)
UNIFORM = "uniform"


@dataclass(frozen=True, eq=False)
class FrameWindows:
    """Windows of consecutive frames, from held-out or from training episodes.

    images   uint8 [N, length, H, W, 3]
    actions  of the player after each frame, N times `length` names; "" where the recording has none
    game     name of the game, "" if the recording has none
    """

    images: np.ndarray
    actions: tuple[tuple[str, ...], ...]
    game: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def frames(self) -> np.ndarray:
        """The last frame of each: uint8 [N, H, W, 3]."""
        return self.images[:, -1]

    def numbers(self, number_of: Callable[[str], int]) -> np.ndarray:
        """The actions as numbers by `number_of`, int64 [N, length]."""
        return np.array([[number_of(name) for name in names] for names in self.actions], np.int64)


@dataclass(frozen=True)
class Latents:
    """Measurements of a two-stage model.

    file_bytes      of a whole .vqz file, and
    payload_bits    of the codes in it, for a frame
    codes           of the first stage in a frame
    right, shuffled bits for a code of the first stage, given the latents of its frame and those of another
    first_stage_db  PSNR of the first stage alone, the upper limit of two
    own_db, other_db  PSNR of decoded frames to their original, and to another frame
    places          of the boxers, for recordings of Boxing
    """

    frames: int
    file_bytes: int
    payload_bits: int
    codes: int
    right: float
    shuffled: float
    first_stage_db: float
    own_db: float
    other_db: float
    places: Places | None

    @property
    def saved_bits(self) -> float:
        """Bits per frame that the right latents save against shuffled ones."""
        return (self.shuffled - self.right) * self.codes


def length_of(model: LoadedModel) -> int:
    """Frames in a window: one, and the context of a prior over video."""
    info = priors.find(model.info, "frames")
    return 1 if info is None else 1 + int(info.description["arguments"].get("context", CONTEXT))


def load_windows(recording: Path, count: int, length: int, *, held_out: bool = True) -> FrameWindows:
    """`count` windows of `length` frames, or as many as there are, spread evenly over held-out or training episodes.

    Raises UsageError if there is none or the frames are of several sizes, BadFile for a damaged episode.
    """
    files = recordings.episode_files(recording)
    if not files:
        raise UsageError(f"{recording} is not a recording", "vq record makes one: a folder of .npz episodes")
    kept = [file for file, held in zip(files.values(), split.held_out(list(files)), strict=True) if held == held_out]
    rooms = [max(0, recordings.count_frames(file) - length + 1) for file in kept]
    if not sum(rooms):
        which = "held-out" if held_out else "training"
        raise UsageError(f"no {which} episode of {recording} has {length} frames in a row", "record more")
    chosen = np.linspace(0, sum(rooms) - 1, min(count, sum(rooms))).round().astype(int)
    images: list[np.ndarray] = []
    actions: list[tuple[str, ...]] = []
    end = 0
    for file, room in zip(kept, rooms, strict=True):
        starts = chosen[(chosen >= end) & (chosen < end + room)] - end
        end += room
        if len(starts):
            episode = recordings.read_episode(file)
            names = episode.actions or ("",) * len(episode.images)
            images += [episode.images[start : start + length] for start in starts]
            actions += [tuple(names[start : start + length]) for start in starts]
    if len({part.shape for part in images}) > 1:
        raise UsageError(f"the frames of {recording} are of several sizes", "measure those of one size")
    facts = recordings.facts_of(recording)
    flat = np.stack([rgb(frame) for part in images for frame in part])
    return FrameWindows(flat.reshape(len(images), length, *flat.shape[1:]), tuple(actions), facts.game if facts else "")


def other_windows(count: int) -> np.ndarray:
    """For each of `count` windows the index of another, far from it. Raises UsageError if there is only one."""
    if count < 2:
        raise UsageError("one frame has no other to compare with", "measure two or more")
    return (np.arange(count) + count // 2) % count


def points(
    model: LoadedModel, windows: FrameWindows, codecs: Sequence[str] = USUAL, progress: ProgressCallback = silent
) -> list[Point]:
    """Means over the frames: of the model, its codes bitpacked, and of baselines at equal bytes."""
    frames = windows.frames
    names = [f"{index:06d}" for index in range(len(frames))]
    measured = rate_distortion.evaluate(
        model,
        names,
        lambda index: frames[index],
        [None],
        codecs=codecs,
        making=rate_distortion.Making("packed"),
        progress=progress,
    )
    return rate_distortion.means(measured)


@torch.inference_mode()
def costs(model: LoadedModel, windows: FrameWindows, progress: ProgressCallback = silent) -> list[CodeCost]:
    """Bits for a code of the frames under each coder, and under the priors of the model."""
    frames, sizes = windows.frames, books(model)[0]
    names = [f"{index:06d}" for index in range(len(frames))]
    coder_costs = rate_distortion.code_costs(
        model, names, lambda index: frames[index], [None], progress=lambda share: progress(share / 2)
    )
    bits = {UNIFORM: float(np.mean(np.log2(sizes)))}
    if (info := priors.find(model.info, "pixelcnn")) is not None:
        bits |= _under_pixelcnn(model, info, frames)
    if (info := priors.find(model.info, "frames")) is not None:
        bits |= _under_frames(model, info, windows, lambda share: progress(0.5 + share / 2))
    scale = len(sizes) * math.prod(model.net.grid(*frames.shape[1:3])) / math.prod(frames.shape[1:3])
    return coder_costs + [
        CodeCost(under, 0.0, len(frames), value, None, value * scale) for under, value in bits.items()
    ]


def _under_pixelcnn(model: LoadedModel, info: PriorInfo, frames: np.ndarray) -> dict[str, float]:
    net = priors.load_pixelcnn(info, model.device)
    if net.labels and not net.unlabelled:  # frames have no class
        return {}
    codes = codes_of(model, frames)
    nats = torch.cat([net.nats(part.to(model.device)).cpu() for part in codes.split(BATCH)])
    return {PIXELCNN: _per_code(nats, codes)}


def _under_frames(
    model: LoadedModel, info: PriorInfo, windows: FrameWindows, progress: ProgressCallback
) -> dict[str, float]:
    """By the context of the prior; contexts that it was not trained with are left out."""
    net = priors.load_frames(info, model.device)
    count, length = windows.images.shape[:2]
    if length != net.context + 1:
        raise ValueError(f"windows of {length} frames, and the prior has a context of {net.context}")
    flat = codes_of(model, windows.images.reshape(-1, *windows.images.shape[2:]), lambda share: progress(share / 2))
    codes = flat.view(count, length, *flat.shape[1:]).movedim(1, 2)  # (N, n_codebooks, length, rows, columns)
    before, frame = codes[:, :, :-1], codes[:, :, -1]
    actions = torch.from_numpy(windows.numbers(info.number_of)[:, :-1])
    nothing, unknown = torch.full_like(before, MISSING), torch.full_like(actions, UNKNOWN)
    contexts = {NO_ACTIONS: (before, unknown), NOTHING: (nothing, unknown)}
    if net.actions and (actions >= 0).any():
        others = actions[torch.from_numpy(other_windows(count))]
        contexts = {BEFORE: (before, actions), OTHER_ACTIONS: (before, others), **contexts}
    bits = {}
    for done, (under, (frames, names)) in enumerate(contexts.items(), 1):
        bits[under] = bits_per_code(net, frame, frames, names)
        progress(0.5 + done / len(contexts) / 2)
    return bits


@torch.inference_mode()
def bits_per_code(net: FramePrior, frame: Tensor, before: Tensor, actions: Tensor) -> float:
    """Bits for a code of frames [N, n_codebooks, rows, columns] given those before and actions."""
    device = next(net.parameters()).device
    parts = zip(*(whole.split(BATCH) for whole in (frame, before, actions)), strict=True)
    return _per_code(torch.cat([net.nats(*(part.to(device) for part in three)).cpu() for three in parts]), frame)


def _per_code(nats: Tensor, codes: Tensor) -> float:
    return float(nats.double().sum()) / (math.log(2) * codes.numel())


@torch.inference_mode()
def latents(model: LoadedModel, windows: FrameWindows, progress: ProgressCallback = silent) -> Latents:
    """Measurements of a two-stage model. Raises UsageError for another, and for frames of another size."""
    net, frames = model.net, windows.frames
    if net.first is None:
        raise UsageError(f"model {model.info.name} has one stage of codes", "a model of family twostage2d has two")
    tiling.check_size(model, *frames.shape[1:3])
    others = other_windows(len(frames))
    first, second = codes_of(model, frames, by=net.first.encode), codes_of(model, frames)
    right, shuffled, decoded_parts, first_parts = [], [], [], []
    parts = torch.arange(len(frames)).split(BATCH)
    for number, part in enumerate(parts, 1):
        codes, own = first[part].to(model.device), second[part].to(model.device)
        other = second[torch.from_numpy(others)[part]].to(model.device)
        right.append(net.nats(codes, net.quantizer.lookup(own)).cpu())
        shuffled.append(net.nats(codes, net.quantizer.lookup(other)).cpu())
        decoded_parts.append(to_pixels(in_channels(net.decode(own), 3)))
        first_parts.append(to_pixels(in_channels(net.first.decode(codes), 3)))
        progress(number / len(parts))
    decoded, first_decoded = np.concatenate(decoded_parts), np.concatenate(first_parts)
    image = tiling.encode_image(model, frames[0])
    return Latents(
        frames=len(frames),
        file_bytes=image_file.file_size(model, image, coder="packed"),
        payload_bits=sum(math.ceil(math.log2(K)) for K in net.codebook_sizes),
        codes=first[0].numel(),
        right=_per_code(torch.cat(right), first),
        shuffled=_per_code(torch.cat(shuffled), first),
        first_stage_db=mean_psnr(frames, first_decoded),
        own_db=mean_psnr(frames, decoded),
        other_db=mean_psnr(frames[others], decoded),
        places=boxing.compare(frames, decoded, others) if windows.game == boxing.GAME else None,
    )


def mean_psnr(true: np.ndarray, decoded: np.ndarray) -> float:
    """Mean over frames uint8 [N, H, W, 3], in dB."""
    return float(np.mean([metrics.psnr(one, other) for one, other in zip(true, decoded, strict=True)]))


@torch.inference_mode()
def codes_of(
    model: LoadedModel,
    frames: np.ndarray,
    progress: ProgressCallback = silent,
    by: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Codes int64 [N, n_codebooks, rows, columns] of frames uint8 [N, H, W, 3], on the CPU.

    `by` encodes instead of the net. For models without qualities.
    """
    encode = by or model.net.encode
    parts = []
    for done, part in batches(frames):
        parts.append(encode(in_channels(from_pixels(part, model.device), model.net.channels)).cpu())
        progress(done)
    return torch.cat(parts)


@torch.inference_mode()
def pixels_of(
    model: LoadedModel, codes: Tensor, size: tuple[int, int], progress: ProgressCallback = silent
) -> np.ndarray:
    """Frames uint8 [N, H, W, 3] of codes [N, n_codebooks, rows, columns]; `size` is H, W."""
    parts = []
    for done, part in batches(codes):
        parts.append(to_pixels(in_channels(model.net.decode(part.to(model.device)), 3))[:, : size[0], : size[1]])
        progress(done)
    return np.concatenate(parts)


Items = TypeVar("Items", np.ndarray, Tensor)


def batches(whole: Items) -> Iterator[tuple[float, Items]]:
    """Batches of BATCH items, each with the share of all items up to its end."""
    for first in range(0, len(whole), BATCH):
        yield min(1.0, (first + BATCH) / len(whole)), whole[first : first + BATCH]
