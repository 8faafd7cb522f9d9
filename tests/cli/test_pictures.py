"""Small pictures of results in terminals."""

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from vqcli.cli import console, pictures

COLOURS = {"TERM": "xterm-256color"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        (COLOURS, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({**COLOURS, "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({**COLOURS, "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({**COLOURS, "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({**COLOURS, "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/tmux"}, "blocks"),
        ({**COLOURS, "NO_COLOR": "1"}, None),
    ],
)
def test_what_a_terminal_shows_is_read_from_the_environment(environment, how, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", environment["TERM"])
    monkeypatch.setattr(console, "volume", console.Volume.NORMAL)
    assert pictures.way(environment) == how


def test_nothing_is_drawn_in_pipes_dumb_terminals_or_when_quiet(monkeypatch):
    assert pictures.way({"TERM": "xterm-kitty"}) is None  # stderr is captured here
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert pictures.way({}) is None
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.setattr(console, "volume", console.Volume.QUIET)
    assert pictures.way({"TERM": "xterm-kitty"}) is None


def test_kitty_gets_a_png_in_short_sequences(rng=np.random.default_rng(0)):
    pixels = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    drawn = pictures.drawn(pixels, "kitty")
    found = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert len(found) > 2 and max(len(part) for _, part in found) == pictures.CHUNK
    assert found[0][0].startswith("a=T,f=100,q=2,") and [head[-1] for head, _ in found] == ["1"] * (len(found) - 1) + [
        "0"
    ]
    data = base64.b64decode("".join(part for _, part in found))
    assert (np.asarray(Image.open(io.BytesIO(data))) == pixels).all()


def test_iterm2_gets_the_size_of_the_file():
    drawn = pictures.drawn(np.zeros((4, 8, 3), np.uint8), "iterm2")
    size, data = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);[^:]*:([^\a]*)\a\n", drawn).groups()
    assert len(base64.b64decode(data)) == int(size)


def test_blocks_are_two_pixels_a_character(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setattr(sys, "stderr", Terminal())
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [1, 2, 3]]], np.uint8)
    drawn = pictures.drawn(pixels, "blocks")
    assert drawn == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[0m\x1b[38;2;0;255;0;48;2;1;2;3m▀\x1b[0m\n"


def test_a_decoded_image_is_drawn_where_that_is_asked_for(vq, photo, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "way", lambda: "blocks")
    monkeypatch.setattr(pictures, "drawn", lambda pixels, how: shown.append((pixels.shape, how)) or "")
    vq("encode", photo, "--model", "scalar")
    vq("decode", "photo.vqz", "-o", "a.png")
    assert shown == []
    assert vq("decode", "photo.vqz", "-o", "b.png", "--show").exit_code == 0
    assert shown == [((38, 50, 3), "blocks")]
