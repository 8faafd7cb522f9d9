"""Video that a prior draws by actions: whether it shows what was asked for, and what clips cost beside H.264.

namer = learn(model, Path("doom/"))            minutes on one core
drawn = draw(model, Path("doom/"), 20)         10 frames after 6, each action in turn, told or not
namer.rate(drawn.told, drawn.asked)            how often the net names the action of a drawn transition
futures(drawn)                                 how far actions part what follows one start
clip_points(model, clips)                      bytes and PSNR of codes, of H.264 and of single pictures

The net that names actions looks at two frames and says what was done between them. It learns from clips that were
really recorded, after they went through the same codec, as the judge of pictures does (judge.py).
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
from vqcli.evaluation.image.classifier import recoded
from vqcli.evaluation.video import frames, h264
from vqcli.evaluation.video.frames import Windows
from vqcli.media import drawing
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.nets.priors.frames import UNKNOWN
from vqcli.progress import Report, silent
from vqcli.sampling import video
from vqcli.sampling.video import FRAMES, sample_frames
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

RUN = 17  # frames in a row to learn from
RUNS = 300  # such runs at most
HELD_OUT = 60  # runs to be judged by
WIDTHS = (32, 64, 96, 128)
HALVED = 48  # pixels: frames from this side on are looked at in half their size, where motion shows as well
LEARNING_RATE, PASSES = 3e-3, 30
CODEC_SHARE = 0.4  # of the time that `learn` reports on

STORED = 64  # frames of a clip that is stored
STARTS = 3  # in a picture
REAL, ASKED, TRUE, UNTOLD = (
    "real, held out",
    "drawn, told one action throughout",
    "drawn, told what was really done",
    "drawn, told nothing: named as what was really done",
)

PACKED, AUTO = "codes, packed", "codes, smallest coder"
USUAL = (h264.NAME, "WebP")


@dataclass(frozen=True)
class Rate:
    """How often a transition was given the action that it should show; `by_action`: (share, number) of each."""

    share: float
    transitions: int
    by_action: dict[str, tuple[float, int]]


class Namer(nn.Module):
    """Two frames uint8 [B, 2, H, W, 3] -> logits [B, actions] of what was done between them."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        pairs = zip((6, *WIDTHS), WIDTHS, strict=False)
        layers = [
            (nn.Conv2d(a, b, 5 if a == 6 else 3, 2, 2 if a == 6 else 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairs
        ]
        self.body = nn.Sequential(*(layer for three in layers for layer in three))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTHS[-1], actions))

    def forward(self, pairs: Tensor) -> Tensor:
        x = pairs.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 127.5 - 1  # (B, 6, H, W)
        if min(x.shape[2:]) >= HALVED:
            x = F.avg_pool2d(x, 2)
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Judge:
    """A net that has learned to name actions. `transitions`: how many it learned from; `passes`: how often each."""

    net: Namer
    actions: tuple[str, ...]
    transitions: int
    passes: float

    @property
    def weights(self) -> int:
        return sum(weight.numel() for weight in self.net.parameters())

    @torch.inference_mode()
    def rate(self, clips: np.ndarray, done: np.ndarray) -> Rate:
        """How often the transitions of clips uint8 [N, T, H, W, 3] are named as `done`, int64 [N, T - 1].

        Those whose action is unknown do not count. Raises UsageError if no other is left.
        """
        pairs, wanted = _pairs(clips, done)
        if not len(pairs):
            raise UsageError("no action of these clips is known", "a recording with actions")
        device = next(self.net.parameters()).device
        parts = [self.net(torch.from_numpy(part).to(device)).argmax(1) for _, part in frames.batches(pairs)]
        right = torch.cat(parts).cpu().numpy() == wanted
        chosen = {name: right[wanted == number] for number, name in enumerate(self.actions) if number in wanted}
        return Rate(
            float(right.mean()), len(right), {name: (float(part.mean()), len(part)) for name, part in chosen.items()}
        )


def prior_of(model: LoadedModel) -> PriorInfo:
    """The prior over video of a model. Raises ModelError if it has none, UsageError if that knows no actions."""
    info = video.prior_of(model)
    if len(info.classes) < 2:
        raise UsageError(f"the prior over video of {model.info.name} knows no actions that could be told apart")
    return info


def learn(
    model: LoadedModel,
    recording: Path,
    *,
    minutes: float = 3.0,
    passes: int = PASSES,
    seed: int = 0,
    report: Report = silent,
) -> Judge:
    """A judge of the actions that the prior knows, from the training episodes of a recording.

    Learning ends after `passes` over the transitions or after `minutes`, whichever is sooner; equal seeds give the same
    judge only in the former case. Raises UsageError and ModelError as `prior_of` and frames.windows do.
    """
    info = prior_of(model)
    real = frames.windows(recording, RUNS, RUN, held_out=False)
    clips = through(model, real, lambda share: report(CODEC_SHARE * share))
    pairs, wanted = _pairs(clips, real.numbers(info.number_of)[:, :-1])
    if not len(pairs):
        raise UsageError(f"{recording} tells none of the actions {', '.join(info.classes)}", "a recording with actions")

    def told(share: float) -> None:
        report(CODEC_SHARE + (1 - CODEC_SHARE) * share)

    # noise of its own: the caller's random state does not notice
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = Namer(len(info.classes)).to(model.device)
        steps = math.ceil(passes * len(pairs) / BATCH)
        shown = torch.from_numpy(pairs).to(model.device)

        def look(chosen: Tensor) -> Tensor:
            return net(shown[chosen])

        done = fit(net, look, wanted, learning_rate=LEARNING_RATE, steps=steps, seconds=60 * minutes, report=told)
    return Judge(net.eval(), info.classes, len(pairs), done * min(BATCH, len(pairs)) / len(pairs))


def _pairs(clips: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transitions whose action is known: uint8 [M, 2, H, W, 3], int64 [M]."""
    pairs = np.stack([clips[:, :-1], clips[:, 1:]], 2).reshape(-1, 2, *clips.shape[2:])
    known = done.ravel() >= 0
    return pairs[known], done.ravel()[known]


def through(model: LoadedModel, seen: Windows, report: Report = silent) -> np.ndarray:
    """The clips encoded and decoded again: uint8 [N, length, H, W, 3]."""
    flat = seen.images.reshape(-1, *seen.images.shape[2:])
    made = []
    for done, part in frames.batches(flat):
        made.append(recoded(model, part))
        report(done)
    return np.concatenate(made).reshape(seen.images.shape)


# ---------------------------------------------------------------- drawn clips


@dataclass(frozen=True, eq=False)
class Drawn:
    """Clips that go on from N starts, decoded; frames are uint8 [H, W, 3]. T are drawn after the last that is given.

    actions  A names
    given    [N, context, ...], as the codec gives them back
    told     [A, N, T, ...], told one action throughout; and `again` with other seeds
    true     [N, T, ...], told what was really done, `really` int64 [N, T] by its number, UNKNOWN where not known
    untold   [N, T, ...], told nothing
    """

    actions: tuple[str, ...]
    given: np.ndarray
    told: np.ndarray
    again: np.ndarray
    true: np.ndarray
    untold: np.ndarray
    really: np.ndarray

    def throughout(self) -> tuple[np.ndarray, np.ndarray]:
        """Clips that were told one action, from the last given frame on, and the actions: what `Judge.rate` takes."""
        A, N, T = self.told.shape[:3]
        asked = np.repeat(np.arange(A), N * T).reshape(A * N, T)
        return np.concatenate([self.since_given(part) for part in self.told]), asked

    def since_given(self, clips: np.ndarray) -> np.ndarray:
        """Clips [N, T, ...] with the last given frame before them."""
        return np.concatenate([self.given[:, -1:], clips], 1)


@torch.inference_mode()
def draw(
    model: LoadedModel,
    recording: Path,
    count: int,
    *,
    length: int = FRAMES,
    sampling: Sampling = AS_LEARNED,
    seed: int = 0,
    report: Report = silent,
) -> Drawn:
    """`length` frames from each of `count` starts, held-out clips of as many frames as the prior looks at.

    What was done between the given frames is not told: a clip does not know. Clip n has the same random numbers
    whatever it is told. Raises UsageError and ModelError as `prior_of` and frames.windows do.
    """
    info = prior_of(model)
    net, A = priors.load_frames(info, model.device), len(info.classes)
    seen = frames.windows(recording, count, net.context + length)
    N, size = len(seen), (seen.images.shape[2], seen.images.shape[3])
    codes = frames.codes_of(model, seen.images[:, : net.context].reshape(-1, *seen.images.shape[2:]))
    before = codes.view(N, net.context, *codes.shape[1:]).movedim(1, 2).numpy()  # (N, G, context, rows, columns)
    really = seen.numbers(info.number_of)[:, net.context - 1 : -1]
    done = np.full((2 * A + 2, N, net.context - 1 + length), UNKNOWN, np.int64)
    done[: 2 * A, :, net.context - 1 :] = np.tile(np.arange(A), 2)[:, None, None]
    done[2 * A, :, net.context - 1 :] = really
    shape = (length, *before.shape[1:2], *before.shape[3:])
    same, other = (
        np.stack([np.random.default_rng([number, n]).random(shape) for n in range(N)]) for number in (seed, seed + 1)
    )
    uniforms = np.concatenate([same] * A + [other] * A + [same] * 2)
    drawn = sample_frames(
        net, np.tile(before, (2 * A + 2, 1, 1, 1, 1)), done.reshape(-1, done.shape[2]), uniforms, sampling,
        lambda share: report(0.8 * share),
    )  # fmt: skip
    flat = torch.from_numpy(drawn).movedim(1, 2).flatten(0, 1)  # (clips x T, G, rows, columns)
    pixels = frames.pixels_of(model, flat, size, lambda share: report(0.8 + 0.2 * share))
    clips = pixels.reshape(2 * A + 2, N, length, *pixels.shape[1:])
    given = frames.pixels_of(model, codes, size).reshape(N, net.context, *pixels.shape[1:])
    return Drawn(info.classes, given, clips[:A], clips[A : 2 * A], clips[-2], clips[-1], really)


def rates(judge: Judge, model: LoadedModel, recording: Path, drawn: Drawn, report: Report = silent) -> dict[str, Rate]:
    """How often transitions are named right: held-out real ones, and drawn ones by what the prior was told."""
    real = frames.windows(recording, HELD_OUT, RUN)
    number_of = {name: number for number, name in enumerate(judge.actions)}
    done = real.numbers(lambda name: number_of.get(name, UNKNOWN))[:, :-1]
    found = {REAL: judge.rate(through(model, real, report), done), ASKED: judge.rate(*drawn.throughout())}
    for name, clips in ((TRUE, drawn.true), (UNTOLD, drawn.untold)):
        found[name] = judge.rate(drawn.since_given(clips), drawn.really)
    return found


@dataclass(frozen=True)
class Futures:
    """Mean squared differences of pixels, 0 .. 65025, between what was drawn from one start.

    by_actions  told different actions, with the same random numbers
    by_seeds    told the same action, with other random numbers
    """

    by_actions: float
    by_seeds: float


def futures(drawn: Drawn) -> Futures:
    """How far actions part the futures, against what chance alone does."""
    A = len(drawn.actions)
    pairs = [(a, b) for a in range(A) for b in range(a)]
    return Futures(
        float(np.mean([metrics.mse(drawn.told[a], drawn.told[b]) for a, b in pairs])),
        float(np.mean([metrics.mse(drawn.told[a], drawn.again[a]) for a in range(A)])),
    )


def picture(drawn: Drawn, starts: int, actions: Sequence[str]) -> np.ndarray:
    """A row for each of these actions below each of the first `starts`: what was given, a gap, what was drawn. RGB."""
    H, W = drawn.given.shape[2:4]
    gap = np.full((H, max(1, W // 16), 3), 255, np.uint8)
    rows = [
        [*drawn.given[n], gap, *drawn.told[drawn.actions.index(name), n]]
        for n in range(min(starts, len(drawn.given)))
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
    """Raise UsageError for an unknown codec, and for H.264 without the extra: better before the work than after it."""
    known = (h264.NAME, *baselines.CODECS)
    for name in names:
        if name not in known:
            raise UsageError(f"no codec {name}", near_matches(name, known))
    if h264.NAME in names:
        h264.require()


def clip_points(
    model: LoadedModel, seen: Windows, codecs: Sequence[str] = USUAL, report: Report = silent
) -> list[ClipPoint]:
    """Clips as codes of the model, packed and by its smallest coder; others of `codecs` at no more bytes than each.

    H.264 has a whole clip for its stream, other codecs (image/baselines.py) each picture by itself. Raises UsageError
    as `check_codecs` does.
    """
    check_codecs(codecs)
    found: dict[str, list[tuple[int, float]]] = {}
    count, length, H, W = seen.images.shape[:4]
    for number, clip in enumerate(seen.images, 1):
        codes = frames.codes_of(model, clip)
        own = VideoCodes(codes.movedim(1, 0).numpy().astype(np.uint16), (W, H), round(1000 * RECORDED_PER_S))
        db = frames.mean_psnr(clip, frames.pixels_of(model, codes, (H, W)))
        sizes = {
            name: len(vqz.pack(*pack_video(model, own, coder=coder)))
            for name, coder in ((PACKED, "packed"), (AUTO, "auto"))
        }
        for name, size in sizes.items():
            found.setdefault(name, []).append((size, db))
        for codec in codecs:
            for name, size in sizes.items():
                found.setdefault(f"{codec} at the bytes of {name}", []).append(_at_bytes(clip, codec, size))
        report(number / count)
    return [
        ClipPoint(name, count, count * length, sum(size for size, _ in each) / (count * length), _mean_db(each))
        for name, each in found.items()
    ]


def _at_bytes(clip: np.ndarray, codec: str, size: int) -> tuple[int, float]:
    """Bytes and PSNR of a clip uint8 [T, H, W, 3] in at most `size` bytes, or in as few as the codec can."""
    if codec == h264.NAME:
        stream = h264.at_bytes(clip, size)
        return stream.size_bytes, frames.mean_psnr(clip, stream.frames)
    each = [baselines.at_bytes(frame, codec, size // len(clip)) for frame in clip]
    return sum(one.size_bytes for one in each), frames.mean_psnr(clip, np.stack([one.pixels for one in each]))


def _mean_db(each: list[tuple[int, float]]) -> float:
    return float(np.mean([db for _, db in each]))
