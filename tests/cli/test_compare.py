import html
import json
import re
import shlex
from pathlib import Path

import numpy as np
import typer

from vqcli.cli.main import app
from vqcli.media import audio

COMMANDS = typer.main.get_command(app)


def shown(path):
    """The commands that a page shows, each of which parses."""
    lines = [html.unescape(line) for line in re.findall(r'command"><code>(.*?)</code>', Path(path).read_text())]
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "vq"
        assert COMMANDS.commands[words[1]].make_context(line, words[2:]) is not None
    return lines


def test_an_image(vq, photo):
    result = vq("compare", photo, "--models", "scalar,vector", "--qualities", "1,3", "--baselines", "JPEG")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("compare.html: ") and result.stdout == ""
    lines = shown("compare.html")
    assert lines[0] == "vq compare photo.png --models scalar,vector --qualities 1,3 --baselines JPEG"
    for line in lines[1:]:
        assert vq(*shlex.split(line)[1:]).exit_code == 0, line
    assert Path("photo-scalar-q1.png").exists() and Path("photo-scalar-q3.png").exists()
    again = vq("compare", photo, "--models", "scalar")
    assert again.exit_code == 2 and "compare.html exists" in again.stderr


def test_figures_are_those_of_the_files(vq, photo):
    done = vq("compare", photo, "--models", "scalar", "--qualities", "2", "--baselines", "", "-o", "p.html", "--json")
    assert json.loads(done.stdout)["size_bytes"] == Path("p.html").stat().st_size
    vq("encode", photo, "--model", "scalar", "--quality", "2", "-o", "two.vqz")
    assert f"<td>{Path('two.vqz').stat().st_size} B</td>" in Path("p.html").read_text()


def test_what_cannot_be_compared(vq, photo):
    audio.write(Path("talk.wav"), np.zeros((1, 16_000), np.float32), 16_000)
    for arguments, told in (
        (["nowhere.png"], "nowhere.png is no file"),
        ([photo, "talk.wav"], "compares images, or recordings"),
        ([photo, "--models", "scalr"], "scalr"),
        ([photo, "--models", "scalar", "--baselines", "JPG"], "no codec JPG"),
        ([photo] * 13, "13 files"),
        (["talk.wav", "--models", "scalar"], "scalar is of image"),
    ):
        result = vq("compare", *arguments)
        assert result.exit_code != 0 and told in result.stderr, (arguments, result.stderr)
        assert not Path("compare.html").exists()
