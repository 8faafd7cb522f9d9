"""The page of vq demo: what it made, and the commands that make the same of the files in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vqcli.pages.images import Coded
    from vqcli.pages.parts import Page, Section


def of(sections: Sequence[Section]) -> Page:
    from vqcli.pages.parts import Page

    lead = (
        "A photograph, a spoken sentence and a walk through a maze as integer codes and back, by models that ship with"
        " vq. Below each result is the command that makes it."
    )
    return Page("vq demo", lead, sections, "vq demo")


def of_images(
    output: Path, original: np.ndarray, rows: Sequence[Sequence[Coded]], colours: np.ndarray
) -> list[Section]:
    """The photograph at each rate, and as tokens; `colours` are the codes of the last row, uint8 [h, w, 3]."""
    from vqcli.files import size_text
    from vqcli.pages import images, inline
    from vqcli.pages.parts import Image, Images, Section

    source = str(output / "original.png")

    def commands(coded: Coded) -> list[str]:
        point = coded.point
        stem = f"photo-q{point.quality:g}" if point.quality else point.codec
        which = ["--quality", f"{point.quality:g}"] if point.quality else ["--model", point.codec]
        return [
            shlex.join(["vq", "encode", source, *which, "-o", f"{stem}.vqz"]),
            shlex.join(["vq", "decode", f"{stem}.vqz", "-o", f"{stem}.png"]),
        ]

    photo = images.compared("the photograph", original, rows[:-1], commands)
    tokens = rows[-1][0]
    height, width = original.shape[:2]
    shown = [
        Image(inline.drawing(colours), colours.shape[1], colours.shape[0],
                "The codes of the photograph, a colour for each of 512",
                f"{colours.shape[1] // 4} x {colours.shape[0] // 4} codes, a colour for each of 512"),
        Image(tokens.uri(), width, height, "The photograph decoded from these codes",
                f"decoded from them alone: {size_text(tokens.point.size_bytes)}, {tokens.point.psnr_db:.1f} dB"),
    ]  # fmt: skip
    return [
        Section(
            "A photograph at three rates",
            "Drag the divider, choose what lies on each side, zoom in: JPEG and AVIF have no more bytes than vq has.",
            [photo],
            "Figures are of the decoded pixels. JPEG and AVIF lie in the page as the files they are, what vq decoded as"
            " AVIF within about 45 dB of it. Differences are shown four times as large.",
        ),
        Section(
            "The photograph as tokens",
            "One code of 512 stands for each 4 x 4 pixels: what a language model of images reads and writes.",
            [Images(shown, commands(tokens))],
        ),
    ]


def of_speech(output: Path, target: str, recordings: Sequence[tuple[str, np.ndarray, str]]) -> list[Section]:
    """The sentence, what its codes say and another voice: name, samples [N] at 16 kHz and facts of each."""
    from vqcli.pages.parts import Players, Section
    from vqcli.pages.recordings import player

    source = str(output / "talk.wav")
    known: dict[str, tuple[str, list[str]]] = {
        "talk.wav": ("The sentence", [shlex.join(["vq", "info", str(output / "talk-level-1.vqz")])]),
        f"talk-as-{target}.wav": (
            f"The same words as {target}",
            [shlex.join(["vq", "convert-speaker", source, "--to", target, "-o", f"{target}.wav"])],
        ),
    }

    def of_levels(name: str) -> tuple[str, list[str]]:
        levels = name.removesuffix(".wav").rpartition("-")[2]
        title = "From one level of codes" if levels == "1" else f"From {levels} levels of codes"
        return title, [
            shlex.join(["vq", "encode", source, "--levels", levels, "-o", f"levels-{levels}.vqz"]),
            shlex.join(["vq", "decode", f"levels-{levels}.vqz", "-o", f"levels-{levels}.wav"]),
        ]

    made = []
    for name, samples, facts in recordings:
        title, commands = known.get(name) or of_levels(name)
        made.append(player(title, samples, facts, commands))
    text = "Words, melody and voice are coded apart, so that each can be changed. Above each player is its spectrogram."
    return [Section("A sentence in 359 bytes" if "359 B" in recordings[1][2] else "A sentence", text,
                    [Players("the sentence", made)])]  # fmt: skip


def of_samples(pixels: np.ndarray, classes: Sequence[str], each: int, seed: int) -> list[Section]:
    """Sampled images uint8 [N, H, W, 3], `each` of every class."""
    from vqcli.pages import inline
    from vqcli.pages.parts import Image, Images, Section

    names = [name for name in classes for _ in range(each)]
    shown = [
        Image(inline.drawing(one), one.shape[1], one.shape[0], f"A sampled image of class {name}", name)
        for one, name in zip(pixels, names, strict=True)
    ]
    asked = [word for name in classes for word in ("--class", name)]
    words = ["vq", "sample", *asked, "-n", str(each), "--seed", str(seed), "-o", "animals.png"]
    return [
        Section(
            "Animals that were never photographed",
            f"{len(pixels[0])} x {pixels.shape[2]} pixels each, sampled code by code by a PixelCNN on the processor.",
            [Images(shown, [shlex.join(words)], small=True)],
        )
    ]


@dataclass(frozen=True)
class Walk:
    """How the futures were sampled: frames, seed, temperature; frames given before, frames a second."""

    frames: int
    seed: int
    temperature: float
    given: int
    fps: float


def of_video(output: Path, futures: Mapping[str, Sequence[np.ndarray]], walk: Walk) -> list[Section]:
    """Frames uint8 [H, W, 3] by action."""
    from vqcli.pages import inline
    from vqcli.pages.parts import Film, Films, Section

    films = []
    for action, frames in futures.items():
        height, width = frames[0].shape[:2]
        words = ["vq", "sample", "--model", "doom", "--from", str(output / "maze.webp"), "--frames", str(walk.frames)]
        words += ["--actions", f"{action}*{walk.frames}", "--seed", str(walk.seed)]
        words += ["--temperature", f"{walk.temperature:g}", "-o", f"{action}.gif"]
        alt = f"Frames of a maze, going {action}"
        films.append(Film(inline.strip(frames), width, height, alt, action, [shlex.join(words)]))
    text = f"{walk.given} frames are given; {walk.frames} more are sampled for each action, from codes alone."
    part = Films("futures of the maze", films, walk.given + walk.frames, walk.fps, walk.given)
    return [Section("What happens next", text, [part])]
