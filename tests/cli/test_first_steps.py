"""What vq says to someone who does not know it yet."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from vqcli.cli import first_steps
from vqcli.cli.main import app

LINES = [line for line, _ in first_steps.FIRST_MINUTE]
LINES += [line for _, lines in first_steps.USUAL.values() for line, _ in lines]


@pytest.mark.parametrize("name", first_steps.USUAL)
def test_a_command_that_is_given_nothing_shows_three_lines(vq, name):
    result = vq(name)
    assert result.exit_code == 2 and result.stdout == "" and not list(Path().iterdir())
    question, *lines, last = result.stderr.splitlines()
    assert question.startswith("vq: ") and question.endswith("?") and last == f"    vq {name} --help lists all"
    assert len(lines) == 3 and all(line.startswith(f"    vq {name} ") for line in lines)
    assert "--smoke" in result.stderr or name != "train"


@pytest.mark.parametrize("line", LINES)
def test_the_lines_that_are_shown_parse(line):
    command, words = get_command(app), shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command.make_context(line, words) is not None


def test_vq_alone_begins_with_the_first_minute(vq):
    result = vq()
    assert result.exit_code == 2 and len(first_steps.FIRST_MINUTE) == 5
    first, commands = result.stderr.index("The first minute:"), result.stderr.index("\nCommands:")
    for line, _ in first_steps.FIRST_MINUTE:
        assert first < result.stderr.index(f"  {line} ") < commands
    assert "The first minute:" in vq("--help").stdout and "The first minute:" not in vq("decode", "--help").stdout


def test_completion_is_not_asked(vq):
    """It resolves commands that have no arguments yet."""
    completed = vq(env={"_VQ_COMPLETE": "complete_bash", "COMP_WORDS": "vq decode ", "COMP_CWORD": "2"}, prog_name="vq")
    assert "decode what" not in completed.output and not re.search(r"^vq: ", completed.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("encod photo.png", "Did you mean 'encode'"),
        ("models sho tokens", "Did you mean 'show'"),
        ("decode --modle x photo.vqz", "--model"),
        ("demo --opn", "--open"),
        ("eval lossles images/", "did you mean lossless?"),
        ("eval sampels images/", "did you mean samples?"),
        ("encode photo.png --model scaler", "did you mean scalar?"),
        ("encode photo.png --model scalar --coder adptive", "did you mean adaptive?"),
        ("recipes phto", "did you mean photo"),
        ("train phto images/ -o mine", "did you mean photo"),
        ("train smoke images/ -o mine --set data.bach=4", "did you mean batch or"),
        ("eval photo.png --model scalar --baselines JPG", "did you mean JPEG"),
        ("record dom -o mine", "did you mean doom?"),
    ],
)
def test_what_is_mistyped_shows_near_matches(vq, photo, line, meant):
    Path("images").mkdir()
    result = vq(*shlex.split(line))
    assert result.exit_code in (2, 4) and meant in result.stderr, result.stderr


def test_a_folder_that_is_nearly_called_like_a_measurement_is_measured(vq, photo):
    Path("sample").mkdir()
    photo.rename("sample/photo.png")
    assert vq("eval", "sample", "--model", "scalar", "--qualities", "1", "--baselines", "").exit_code == 0
