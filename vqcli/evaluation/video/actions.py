"""Evaluation of video sampled by actions: do samples show the actions, and what do clips cost compared with H.264?

classifier = train(model, Path("doom/"))                  minutes on one core
sampled = sample(model, Path("doom/"), 20)                10 frames after 6, each action in turn
classifier.accuracy(*sampled.throughout())                of a classifier of actions on sampled transitions
futures(sampled)                                          how far actions separate samples of one start
clip_points(model, clips)                                 bytes and PSNR of codes, of H.264 and of single images

The classifier predicts the action between two frames. It is trained on recorded clips decoded by the same codec, as the
classifier of images is (image/classifier.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.codec.codes import VideoCodes
from vqcli.codec.video import RECORDED_PER_S
from vqcli.codec.video_file import pack_video
from vqcli.container import vqz
from vqcli.errors import UsageError, near_matches
from vqcli.evaluation import metrics
from vqcli.evaluation.fitting import BATCH, fit
from vqcli.evaluation.image import baselines
from vqcli.evaluation.image.classifier import reconstruct
from vqcli.evaluation.video import frames, h264
from vqcli.evaluation.video.frames import FrameWindows
from vqcli.media import drawing
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.nets.priors.frames import UNKNOWN
from vqcli.progress import ProgressCallback, silent
from vqcli.sampling import video
from vqcli.sampling.video import FRAMES, sample_frames
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

LENGTH = 17  # frames in a window for training
TRAINED = 300  # such windows at most
HELD_OUT = 60  # windows to evaluate on
WIDTHS = (32, 64, 96, 128)
HALVED = 48  # pixels: frames of this side or more are halved, which keeps motion visible
LEARNING_RATE, PASSES = 3e-3, 30
CODEC_SHARE = 0.4  # of the progress of `train`

CODED = 64  # frames of a clip that is coded to a file
STARTS = 3  # in an image
REAL, CONDITIONED, TRUE_ACTIONS, UNCONDITIONED = (  # keys of the JSON output
    "real, held out",
    "drawn, told one action throughout",
    "drawn, told what was really done",
    "drawn, told nothing: named as what was really done",
)

PACKED, AUTO = "codes, packed", "codes, smallest coder"
USUAL = (h264.NAME, "WebP")


@dataclass(frozen=True)
class ActionAccuracy:
    """Accuracy on some transitions; `by_action`: (share, number) of each."""

    share: float
    transitions: int
    by_action: dict[str, tuple[float, int]]


class ActionNet(nn.Module):
    """Two frames uint8 [B, 2, H, W, 3] -> logits [B, actions] of the action between them."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        pairs = zip((6, *WIDTHS), WIDTHS, strict=False)
        layers = [
            (nn.Conv2d(a, b, 5 if a == 6 else 3, 2, 2 if a == 6 else 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairs
        ]
        self.body = nn.Sequential(*(layer for block in layers for layer in block))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTHS[-1], actions))

    def forward(self, pairs: Tensor) -> Tensor:
        x = pairs.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 127.5 - 1  # (B, 6, H, W)
        if min(x.shape[2:]) >= HALVED:
            x = F.avg_pool2d(x, 2)
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class ActionClassifier:
    """A trained classifier of actions. `transitions`: number of its training items; `passes`: over these."""

    net: ActionNet
    actions: tuple[str, ...]
    transitions: int
    passes: float

    @property
    def weights(self) -> int:
        return sum(weight.numel() for weight in self.net.parameters())

    @torch.inference_mode()
    def accuracy(self, clips: np.ndarray, done: np.ndarray) -> ActionAccuracy:
        """Accuracy on the transitions of clips uint8 [N, T, H, W, 3] with actions `done`, int64 [N, T - 1].

        Those with unknown actions do not count. Raises UsageError if no other is left.
        """
        pairs, labels = _pairs(clips, done)
        if not len(pairs):
            raise UsageError("no action of these clips is known", "a recording with actions")
        device = next(self.net.parameters()).device
        parts = [self.net(torch.from_numpy(part).to(device)).argmax(1) for _, part in frames.batches(pairs)]
        right = torch.cat(parts).cpu().numpy() == labels
        chosen = {name: right[labels == number] for number, name in enumerate(self.actions) if number in labels}
        return ActionAccuracy(
            float(right.mean()), len(right), {name: (float(part.mean()), len(part)) for name, part in chosen.items()}
        )


def prior_of(model: LoadedModel) -> PriorInfo:
    """The prior over video of a model. Raises ModelError if it has none, UsageError if that has no actions."""
    info = video.prior_of(model)
    if len(info.classes) < 2:
        raise UsageError(f"the prior over video of {model.info.name} has fewer than two actions")
    return info


def train(
    model: LoadedModel,
    recording: Path,
    *,
    minutes: float = 3.0,
    passes: int = PASSES,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> ActionClassifier:
    """Train a classifier of the prior's actions on the training episodes of a recording.

    Training ends after `passes` over the transitions or after `minutes`, whichever is sooner; equal seeds give the same
    classifier only in the former case. Raises UsageError and ModelError as `prior_of` and frames.load_windows do.
    """
    info = prior_of(model)
    real = frames.load_windows(recording, TRAINED, LENGTH, held_out=False)
    clips = reconstructions(model, real, lambda share: progress(CODEC_SHARE * share))
    pairs, labels = _pairs(clips, real.numbers(info.number_of)[:, :-1])
    if not len(pairs):
        raise UsageError(f"{recording} has none of the actions {', '.join(info.classes)}", "a recording with actions")

    def fit_progress(share: float) -> None:
        progress(CODEC_SHARE + (1 - CODEC_SHARE) * share)

    # its own random state: the caller's is unchanged
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = ActionNet(len(info.classes)).to(model.device)
        steps = math.ceil(passes * len(pairs) / BATCH)
        items = torch.from_numpy(pairs).to(model.device)

        def logits_of(chosen: Tensor) -> Tensor:
            return net(items[chosen])

        done = fit(
            net,
            logits_of,
            labels,
            learning_rate=LEARNING_RATE,
            steps=steps,
            seconds=60 * minutes,
            progress=fit_progress,
        )
    return ActionClassifier(net.eval(), info.classes, len(pairs), done * min(BATCH, len(pairs)) / len(pairs))


def _pairs(clips: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transitions whose action is known: uint8 [M, 2, H, W, 3], int64 [M]."""
    pairs = np.stack([clips[:, :-1], clips[:, 1:]], 2).reshape(-1, 2, *clips.shape[2:])
    known = done.ravel() >= 0
    return pairs[known], done.ravel()[known]


def reconstructions(model: LoadedModel, windows: FrameWindows, progress: ProgressCallback = silent) -> np.ndarray:
    """The clips encoded and decoded: uint8 [N, length, H, W, 3]."""
    flat = windows.images.reshape(-1, *windows.images.shape[2:])
    parts = []
    for done, part in frames.batches(flat):
        parts.append(reconstruct(model, part))
        progress(done)
    return np.concatenate(parts).reshape(windows.images.shape)


# ---------------------------------------------------------------- sampled clips


@dataclass(frozen=True, eq=False)
class SampledClips:
    """Decoded samples of T frames after the context of N windows; frames are uint8 [H, W, 3].

    actions            A names
    context            [N, context, ...], decoded
    conditioned        [A, N, T, ...], on one action throughout; `other_seed` the same with another seed
    with_true_actions  [N, T, ...], on `true_actions`, int64 [N, T] of the recording, UNKNOWN where it has none
    unconditioned      [N, T, ...], without actions
    """

    actions: tuple[str, ...]
    context: np.ndarray
    conditioned: np.ndarray
    other_seed: np.ndarray
    with_true_actions: np.ndarray
    unconditioned: np.ndarray
    true_actions: np.ndarray

    def throughout(self) -> tuple[np.ndarray, np.ndarray]:
        """Clips conditioned on one action, from the last frame of the context on, and actions, for `accuracy`."""
        A, N, T = self.conditioned.shape[:3]
        actions = np.repeat(np.arange(A), N * T).reshape(A * N, T)
        return np.concatenate([self.since_context(part) for part in self.conditioned]), actions

    def since_context(self, clips: np.ndarray) -> np.ndarray:
        """Clips [N, T, ...] with the last frame of the context before them."""
        return np.concatenate([self.context[:, -1:], clips], 1)


@torch.inference_mode()
def sample(
    model: LoadedModel,
    recording: Path,
    count: int,
    *,
    length: int = FRAMES,
    sampling: Sampling = AS_LEARNED,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> SampledClips:
    """`length` frames after each of `count` held-out contexts.

    Actions within the context are unknown, as for clips. Clip n has the same random numbers for all actions.
    Raises UsageError and ModelError as `prior_of` and frames.load_windows do.
    """
    info = prior_of(model)
    net, A = priors.load_frames(info, model.device), len(info.classes)
    windows = frames.load_windows(recording, count, net.context + length)
    N, size = len(windows), (windows.images.shape[2], windows.images.shape[3])
    codes = frames.codes_of(model, windows.images[:, : net.context].reshape(-1, *windows.images.shape[2:]))
    before = (
        codes.view(N, net.context, *codes.shape[1:]).movedim(1, 2).numpy()
    )  # (N, n_codebooks, context, rows, columns)
    true_actions = windows.numbers(info.number_of)[:, net.context - 1 : -1]
    done = np.full((2 * A + 2, N, net.context - 1 + length), UNKNOWN, np.int64)
    done[: 2 * A, :, net.context - 1 :] = np.tile(np.arange(A), 2)[:, None, None]
    done[2 * A, :, net.context - 1 :] = true_actions
    shape = (length, *before.shape[1:2], *before.shape[3:])
    same, other = (
        np.stack([np.random.default_rng([number, n]).random(shape) for n in range(N)]) for number in (seed, seed + 1)
    )
    uniforms = np.concatenate([same] * A + [other] * A + [same] * 2)
    codes_sampled = sample_frames(
        net, np.tile(before, (2 * A + 2, 1, 1, 1, 1)), done.reshape(-1, done.shape[2]), uniforms, sampling,
        lambda share: progress(0.8 * share),
    )  # fmt: skip
    flat = torch.from_numpy(codes_sampled).movedim(1, 2).flatten(0, 1)  # (clips x T, n_codebooks, rows, columns)
    pixels = frames.pixels_of(model, flat, size, lambda share: progress(0.8 + 0.2 * share))
    clips = pixels.reshape(2 * A + 2, N, length, *pixels.shape[1:])
    context = frames.pixels_of(model, codes, size).reshape(N, net.context, *pixels.shape[1:])
    return SampledClips(info.classes, context, clips[:A], clips[A : 2 * A], clips[-2], clips[-1], true_actions)


def accuracies(
    classifier: ActionClassifier,
    model: LoadedModel,
    recording: Path,
    sampled: SampledClips,
    progress: ProgressCallback = silent,
) -> dict[str, ActionAccuracy]:
    """Accuracy on held-out real transitions, and on samples by what they are conditioned on."""
    real = frames.load_windows(recording, HELD_OUT, LENGTH)
    number_of = {name: number for number, name in enumerate(classifier.actions)}
    done = real.numbers(lambda name: number_of.get(name, UNKNOWN))[:, :-1]
    found = {
        REAL: classifier.accuracy(reconstructions(model, real, progress), done),
        CONDITIONED: classifier.accuracy(*sampled.throughout()),
    }
    for name, clips in ((TRUE_ACTIONS, sampled.with_true_actions), (UNCONDITIONED, sampled.unconditioned)):
        found[name] = classifier.accuracy(sampled.since_context(clips), sampled.true_actions)
    return found


@dataclass(frozen=True)
class Futures:
    """Mean squared differences of pixels, 0 .. 65025, between samples after one context.

    by_actions  with different actions and the same random numbers
    by_seeds    with the same action and other random numbers
    """

    by_actions: float
    by_seeds: float


def futures(sampled: SampledClips) -> Futures:
    """Differences of samples by action, and by chance alone."""
    A = len(sampled.actions)
    pairs = [(a, b) for a in range(A) for b in range(a)]
    return Futures(
        float(np.mean([metrics.mse(sampled.conditioned[a], sampled.conditioned[b]) for a, b in pairs])),
        float(np.mean([metrics.mse(sampled.conditioned[a], sampled.other_seed[a]) for a in range(A)])),
    )


def sample_grid(sampled: SampledClips, starts: int, actions: Sequence[str]) -> np.ndarray:
    """RGB image of the first `starts`: for each a row per action, with the context, a gap and the sample."""
    H, W = sampled.context.shape[2:4]
    gap = np.full((H, max(1, W // 16), 3), 255, np.uint8)
    rows = [
        [*sampled.context[n], gap, *sampled.conditioned[sampled.actions.index(name), n]]
        for n in range(min(starts, len(sampled.context)))
        for name in actions
    ]
    return drawing.grid(rows, [*actions] * (len(rows) // len(actions)), gap=2)


# ---------------------------------------------------------------- clips as files


@dataclass(frozen=True)
class ClipPoint:
    """Clips through one codec: bytes a frame of whole files, and PSNR in dB; means over frames."""

    codec: str
    clips: int
    frames: int
    bytes_per_frame: float
    psnr_db: float


def check_codecs(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown codec, and for H.264 without the extra: call it before the work."""
    known = (h264.NAME, *baselines.CODECS)
    for name in names:
        if name not in known:
            raise UsageError(f"no codec {name}", near_matches(name, known))
    if h264.NAME in names:
        h264.require()


def clip_points(
    model: LoadedModel, windows: FrameWindows, codecs: Sequence[str] = USUAL, progress: ProgressCallback = silent
) -> list[ClipPoint]:
    """Clips as codes of the model, bitpacked and by its smallest coder; others of `codecs` at no more bytes than each.

    H.264 codes a clip as one stream, other codecs (image/baselines.py) code each frame by itself. Raises UsageError
    as `check_codecs` does.
    """
    check_codecs(codecs)
    coded: dict[str, list[tuple[int, float]]] = {}
    count, length, H, W = windows.images.shape[:4]
    for number, clip in enumerate(windows.images, 1):
        codes = frames.codes_of(model, clip)
        own = VideoCodes(codes.movedim(1, 0).numpy().astype(np.uint16), (W, H), round(1000 * RECORDED_PER_S))
        db = frames.mean_psnr(clip, frames.pixels_of(model, codes, (H, W)))
        sizes = {
            name: len(vqz.pack(*pack_video(model, own, coder=coder)))
            for name, coder in ((PACKED, "packed"), (AUTO, "auto"))
        }
        for name, size in sizes.items():
            coded.setdefault(name, []).append((size, db))
        for codec in codecs:
            for name, size in sizes.items():
                coded.setdefault(f"{codec} at the bytes of {name}", []).append(_at_bytes(clip, codec, size))
        progress(number / count)
    return [
        ClipPoint(name, count, count * length, sum(size for size, _ in each) / (count * length), _mean_db(each))
        for name, each in coded.items()
    ]


def _at_bytes(clip: np.ndarray, codec: str, size: int) -> tuple[int, float]:
    """Bytes and PSNR of a clip uint8 [T, H, W, 3] in at most `size` bytes, or the fewest that the codec can."""
    if codec == h264.NAME:
        stream = h264.at_bytes(clip, size)
        return stream.size_bytes, frames.mean_psnr(clip, stream.frames)
    each = [baselines.at_bytes(frame, codec, size // len(clip)) for frame in clip]
    return sum(one.size_bytes for one in each), frames.mean_psnr(clip, np.stack([one.pixels for one in each]))


def _mean_db(each: list[tuple[int, float]]) -> float:
    return float(np.mean([db for _, db in each]))
