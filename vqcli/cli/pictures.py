"""Small pictures of results, in terminals that can show them.

What a terminal can is read from the environment: asking it would wait on those that do not answer.

    kitty    the graphics protocol of kitty, which Ghostty has too: a PNG in escape sequences
    iterm2   inline images of iTerm2, which WezTerm and mintty have too: likewise
    blocks   two pixels a character, one above the other: any terminal with colours, and those inside of tmux or screen
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import console
from vqcli.cli.bars import on_terminal

if TYPE_CHECKING:
    import numpy as np

COLUMNS, ROWS = 80, 22  # of characters, at most
LARGEST = 1024  # pixels of a side that are sent
CHUNK = 4096  # of base64 in a sequence of kitty's protocol
FRAMES = 4  # of a clip, evenly over it
KITTY, ITERM2 = ("kitty", "ghostty"), ("iTerm.app", "WezTerm", "mintty")

Shown = Annotated[
    bool, typer.Option("--show/--no-show", help="Draw a small picture of the result, in terminals that can.")
]


def way(environment: Mapping[str, str] = os.environ) -> str | None:
    """How the terminal of stderr shows pictures: kitty, iterm2 or blocks; None if it does not or must not."""
    if console.volume < console.Volume.NORMAL or environment.get("NO_COLOR") or not on_terminal(sys.stderr):
        return None
    name, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if any(environment.get(key) for key in ("TMUX", "STY", "ZELLIJ")) or name.startswith(("tmux", "screen")):
        return "blocks"  # what is inside does not know what is outside
    if environment.get("KITTY_WINDOW_ID") or program in KITTY or name.removeprefix("xterm-") in KITTY:
        return "kitty"
    if program in ITERM2 or environment.get("LC_TERMINAL") == "iTerm2":  # this one goes through ssh
        return "iterm2"
    return "blocks"


def preview(paths: Iterable[Path]) -> None:
    """Draw results that were written, side by side, if the terminal can: images, clips by some frames, audio by its
    spectrogram. Of what cannot be read again nothing is drawn."""
    from vqcli.errors import VqError

    how = way()
    if how is None:
        return
    with console.step("drawing"):
        found: list[np.ndarray] = []
        for path in list(dict.fromkeys(paths))[:FRAMES]:
            try:
                found += _pixels(path)
            except (VqError, OSError) as error:
                console.detail(f"{path} is not shown: {error}")
        if not found:
            return
        sequence = drawn(_in_a_row(found), how)
    with console.bars.hidden():
        sys.stderr.write(sequence)
        sys.stderr.flush()


def _pixels(path: Path) -> list[np.ndarray]:
    """Images uint8 [H, W, 1 or 3] of what a file holds, or of the first files of a folder."""
    import numpy as np

    from vqcli import api
    from vqcli.evaluation.speech import spectrograms
    from vqcli.media import audio, image, mel, video

    if path.suffix == ".vqz":
        return []
    modality = api.modality_of(path)
    if modality == "audio":
        return [spectrograms.picture(np.asarray(audio.read(path, mel.RATE_HZ, mono=True).samples[0]))]
    if modality == "image":
        return [image.read(path).pixels]
    with video.opened(path) as clip:
        count = clip.count or FRAMES
        wanted = {number * count // FRAMES for number in range(FRAMES)}
        return [frame for number, frame in enumerate(islice(clip.frames, max(wanted) + 1)) if number in wanted]


def _in_a_row(images: list[np.ndarray]) -> np.ndarray:
    """One image of all, as high as the lowest."""
    import numpy as np
    from PIL import Image

    from vqcli.media import drawing

    height = min(LARGEST, *(len(image) for image in images))
    row = []
    for pixels in images:
        whole = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        row.append(np.asarray(whole.resize((max(1, round(whole.width * height / whole.height)), height))))
    return drawing.side_by_side(row) if len(row) > 1 else row[0]


def drawn(pixels: np.ndarray, how: str) -> str:
    """What shows RGB uint8 [H, W, 3] when it is written to a terminal."""
    from PIL import Image

    whole = Image.fromarray(pixels)
    columns, rows = _cells(whole.width, whole.height, enlarge=how != "blocks")
    if how == "blocks":
        return _blocks(whole.resize((columns, 2 * rows), Image.Resampling.LANCZOS))
    whole.thumbnail((LARGEST, LARGEST))
    stream = BytesIO()
    whole.save(stream, "PNG")
    data = b64encode(stream.getvalue()).decode()
    if how == "iterm2":
        size = f"size={len(stream.getvalue())};width={columns};height={rows};preserveAspectRatio=1"
        return f"\x1b]1337;File=inline=1;{size}:{data}\a\n"
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    heads = [f"a=T,f=100,q=2,c={columns},r={rows},"] + [""] * (len(parts) - 1)  # q=2: it answers nothing
    more = [1] * (len(parts) - 1) + [0]
    chunks = zip(heads, more, parts, strict=True)
    return "".join(f"\x1b_G{head}m={m};{part}\x1b\\" for head, m, part in chunks) + "\n"


def _cells(width: int, height: int, enlarge: bool) -> tuple[int, int]:
    """Columns and rows of characters, twice as high as wide, that an image takes."""
    from shutil import get_terminal_size

    terminal = get_terminal_size()
    most, lines = min(COLUMNS, terminal.columns - 1), min(ROWS, terminal.lines - 2)
    scale = min(most / width, 2 * lines / height)
    scale = scale if enlarge else min(1.0, scale)
    return max(1, int(width * scale)), max(1, round(height * scale / 2))


def _blocks(image: object) -> str:
    """Two pixels a character, in as many colours as the terminal has."""
    import numpy as np
    from rich.color import Color
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    pixels = np.asarray(image)
    lines = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        lines.append(line)
    terminal = Console(stderr=True, no_color=False)
    with terminal.capture() as capture:
        terminal.print(Text("\n").join(lines), no_wrap=True, crop=False)
    return capture.get()
