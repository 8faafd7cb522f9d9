"""What frames of a recording cost as codes and come back as: one stage (the paper, 4.2, figure 4), or two (figure 5).

seen = windows(Path("boxing/"), 500, length_of(model))
costs(model, seen)       bits for a code under each coder and prior
latents(model, seen)     of two stages: whether the latents are used, and whether what is drawn follows its frame

All of it is on held-out episodes. "Another" frame or window is always one half of them further on: far away, and the
same in every figure.
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
from vqcli.progress import Report, silent
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
class Windows:
    """Runs of frames from held-out episodes, or from those that are not.

    images   uint8 [N, length, H, W, 3]
    actions  what was done after each frame, N times `length` names; "" where the recording does not tell
    game     what was played, "" if the recording does not tell
    """

    images: np.ndarray
    actions: tuple[tuple[str, ...], ...]
    game: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def frames(self) -> np.ndarray:
        """The last of each: uint8 [N, H, W, 3]."""
        return self.images[:, -1]

    def numbers(self, known: Callable[[str], int]) -> np.ndarray:
        """The actions as numbers by `known`, int64 [N, length]."""
        return np.array([[known(name) for name in names] for names in self.actions], np.int64)


@dataclass(frozen=True)
class Latents:
    """What two stages make of frames.

    file_bytes      of a whole .vqz file, and
    payload_bits    of the codes in it, for a frame
    codes           of the first stage in a frame
    right, shuffled bits for a code of the first stage, given the latents of its frame and those of another
    first_stage_db  PSNR of what the first stage alone gives back: as near as two could come
    own_db, other_db  PSNR of drawn frames to their own, and to another
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
    def told_bits(self) -> float:
        """How many bits of a frame the right latents save against shuffled ones."""
        return (self.shuffled - self.right) * self.codes


def length_of(model: LoadedModel) -> int:
    """How many frames a window needs: one, and those that a prior over video looks at."""
    info = priors.find(model.info, "frames")
    return 1 if info is None else 1 + int(info.description["arguments"].get("context", CONTEXT))


def windows(recording: Path, count: int, length: int, *, held_out: bool = True) -> Windows:
    """`count` runs of `length` frames, or as many as there are, spread evenly over the episodes of one half.

    Raises UsageError if there is none or the frames are of several sizes, BadFile for a damaged episode.
    """
    files = recordings.episode_files(recording)
    if not files:
        raise UsageError(f"{recording} is no recording", "vq record makes one: a folder of .npz episodes")
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
    return Windows(flat.reshape(len(images), length, *flat.shape[1:]), tuple(actions), facts.game if facts else "")


def elsewhere(count: int) -> np.ndarray:
    """For each of `count` windows the number of another, far from it. Raises UsageError if there is but one."""
    if count < 2:
        raise UsageError("one frame has no other to compare with", "measure two or more")
    return (np.arange(count) + count // 2) % count


def points(model: LoadedModel, seen: Windows, codecs: Sequence[str] = USUAL, report: Report = silent) -> list[Point]:
    """Means over the frames: of the model, its codes packed, and of usual codecs at equal bytes."""
    frames = seen.frames
    names = [f"{index:06d}" for index in range(len(frames))]
    found = rate_distortion.evaluate(
        model, names, lambda index: frames[index], [None], codecs=codecs, coder="packed", report=report
    )
    return rate_distortion.means(found)


@torch.inference_mode()
def costs(model: LoadedModel, seen: Windows, report: Report = silent) -> list[CodeCost]:
    """Bits for a code of the frames under each coder, and under the priors that the model has."""
    frames, sizes = seen.frames, books(model)[0]
    names = [f"{index:06d}" for index in range(len(frames))]
    found = rate_distortion.code_costs(
        model, names, lambda index: frames[index], [None], report=lambda share: report(share / 2)
    )
    bits = {UNIFORM: float(np.mean(np.log2(sizes)))}
    if (info := priors.find(model.info, "pixelcnn")) is not None:
        bits |= _under_pixelcnn(model, info, frames)
    if (info := priors.find(model.info, "frames")) is not None:
        bits |= _under_frames(model, info, seen, lambda share: report(0.5 + share / 2))
    scale = len(sizes) * math.prod(model.net.grid(*frames.shape[1:3])) / math.prod(frames.shape[1:3])
    return found + [CodeCost(under, 0.0, len(frames), value, None, value * scale) for under, value in bits.items()]


def _under_pixelcnn(model: LoadedModel, info: PriorInfo, frames: np.ndarray) -> dict[str, float]:
    net = priors.load_pixelcnn(info, model.device)
    if net.labels and not net.unlabelled:  # frames are of no class
        return {}
    codes = codes_of(model, frames)
    nats = torch.cat([net.nats(part.to(model.device)).cpu() for part in codes.split(BATCH)])
    return {PIXELCNN: _per_code(nats, codes)}


def _under_frames(model: LoadedModel, info: PriorInfo, seen: Windows, report: Report) -> dict[str, float]:
    """By what the prior is told; what it never learned to be told is left out."""
    net = priors.load_frames(info, model.device)
    count, length = seen.images.shape[:2]
    if length != net.context + 1:
        raise ValueError(f"windows of {length} frames, and the prior looks at {net.context} before one")
    flat = codes_of(model, seen.images.reshape(-1, *seen.images.shape[2:]), lambda share: report(share / 2))
    codes = flat.view(count, length, *flat.shape[1:]).movedim(1, 2)  # (N, G, length, rows, columns)
    before, frame = codes[:, :, :-1], codes[:, :, -1]
    actions = torch.from_numpy(seen.numbers(info.number_of)[:, :-1])
    nothing, unknown = torch.full_like(before, MISSING), torch.full_like(actions, UNKNOWN)
    told = {NO_ACTIONS: (before, unknown), NOTHING: (nothing, unknown)}
    if net.actions and (actions >= 0).any():
        others = actions[torch.from_numpy(elsewhere(count))]
        told = {BEFORE: (before, actions), OTHER_ACTIONS: (before, others), **told}
    found = {}
    for done, (under, (frames, names)) in enumerate(told.items(), 1):
        found[under] = bits_per_code(net, frame, frames, names)
        report(0.5 + done / len(told) / 2)
    return found


@torch.inference_mode()
def bits_per_code(net: FramePrior, frame: Tensor, before: Tensor, actions: Tensor) -> float:
    """Bits for a code of frames [N, groups, rows, columns] given those before and actions, as the prior takes them."""
    device = next(net.parameters()).device
    parts = zip(*(whole.split(BATCH) for whole in (frame, before, actions)), strict=True)
    return _per_code(torch.cat([net.nats(*(part.to(device) for part in three)).cpu() for three in parts]), frame)


def _per_code(nats: Tensor, codes: Tensor) -> float:
    return float(nats.double().sum()) / (math.log(2) * codes.numel())


@torch.inference_mode()
def latents(model: LoadedModel, seen: Windows, report: Report = silent) -> Latents:
    """Figures of a model of two stages. Raises UsageError for another, and for frames of another size."""
    net, frames = model.net, seen.frames
    if net.first is None:
        raise UsageError(f"model {model.info.name} has one stage of codes", "a model of family twostage2d has two")
    tiling.check_size(model, *frames.shape[1:3])
    others = elsewhere(len(frames))
    first, second = codes_of(model, frames, by=net.first.encode), codes_of(model, frames)
    right, shuffled, drawn, again = [], [], [], []
    parts = torch.arange(len(frames)).split(BATCH)
    for number, part in enumerate(parts, 1):
        codes, own = first[part].to(model.device), second[part].to(model.device)
        other = second[torch.from_numpy(others)[part]].to(model.device)
        right.append(net.nats(codes, net.quantizer.lookup(own)).cpu())
        shuffled.append(net.nats(codes, net.quantizer.lookup(other)).cpu())
        drawn.append(to_pixels(in_channels(net.decode(own), 3)))
        again.append(to_pixels(in_channels(net.first.decode(codes), 3)))
        report(number / len(parts))
    made, best = np.concatenate(drawn), np.concatenate(again)
    image = tiling.encode_image(model, frames[0])
    return Latents(
        frames=len(frames),
        file_bytes=image_file.file_size(model, image, coder="packed"),
        payload_bits=sum(math.ceil(math.log2(K)) for K in net.codebook_sizes),
        codes=first[0].numel(),
        right=_per_code(torch.cat(right), first),
        shuffled=_per_code(torch.cat(shuffled), first),
        first_stage_db=mean_psnr(frames, best),
        own_db=mean_psnr(frames, made),
        other_db=mean_psnr(frames[others], made),
        places=boxing.compare(frames, made, others) if seen.game == boxing.GAME else None,
    )


def mean_psnr(true: np.ndarray, made: np.ndarray) -> float:
    """Mean over frames uint8 [N, H, W, 3], in dB."""
    return float(np.mean([metrics.psnr(one, other) for one, other in zip(true, made, strict=True)]))


@torch.inference_mode()
def codes_of(
    model: LoadedModel, frames: np.ndarray, report: Report = silent, by: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Codes int64 [N, groups, rows, columns] of frames uint8 [N, H, W, 3], on the CPU; `by` encodes instead of the net.

    Of a model without qualities.
    """
    encode = by or model.net.encode
    made = []
    for done, part in batches(frames):
        made.append(encode(in_channels(from_pixels(part, model.device), model.net.channels)).cpu())
        report(done)
    return torch.cat(made)


@torch.inference_mode()
def pixels_of(model: LoadedModel, codes: Tensor, size: tuple[int, int], report: Report = silent) -> np.ndarray:
    """Frames uint8 [N, H, W, 3] of codes [N, groups, rows, columns]; `size` is H, W."""
    made = []
    for done, part in batches(codes):
        made.append(to_pixels(in_channels(model.net.decode(part.to(model.device)), 3))[:, : size[0], : size[1]])
        report(done)
    return np.concatenate(made)


Many = TypeVar("Many", np.ndarray, Tensor)


def batches(whole: Many) -> Iterator[tuple[float, Many]]:
    """BATCH items after the other, with the share that is done after them."""
    for first in range(0, len(whole), BATCH):
        yield min(1.0, (first + BATCH) / len(whole)), whole[first : first + BATCH]
