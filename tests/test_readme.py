"""The README keeps its word: every command is in it, its `vq` lines parse, its Python runs."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from vqcli.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app)


def code_blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def vq_lines():
    """Every `vq ...` in the shell blocks, without prompts, comments, pipes and redirections."""
    lines = [line for block in code_blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"\||&&|#|;|>|<", line)]
    return sorted({part.removeprefix("$ ") for part in parts if part.removeprefix("$ ").startswith("vq ")})


def commands(group, prefix=""):
    for name, command in group.commands.items():
        yield prefix + name
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("name", list(commands(COMMANDS)))
def test_every_command_is_shown(name):
    assert any(f"{line} ".startswith(f"vq {name} ") for line in vq_lines()), f"the README does not show vq {name}"


@pytest.mark.parametrize("line", vq_lines())
def test_every_line_parses(line):
    command, words = COMMANDS, shlex.split(line)[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    context = command.make_context(line, words)  # parses and checks options, runs nothing
    assert context is not None


def test_every_command_has_an_example():
    def leaves(group):
        for command in group.commands.values():
            yield from leaves(command) if hasattr(command, "commands") else [command]

    for command in leaves(COMMANDS):
        assert re.search(r"^\s*vq ", command.help or "", re.MULTILINE), command.name


def test_every_picture_is_there():
    for card in [ROOT / "README.md", *ROOT.glob("models/*/README.md")]:
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", card.read_text()):
            assert (card.parent / target).is_file(), f"{card} shows {target}"


def test_the_specification_is_that_of_the_code():
    from vqcli.container import vqz

    _, *paragraphs = vqz.__doc__.split("\n\n")
    for paragraph in paragraphs:
        assert paragraph.strip("\n") in README


def test_the_file_tree_is_true():
    """Each line of the tree names a file or folder that exists, and no module is missing."""
    (tree,) = code_blocks("text", (ROOT / "vqcli" / "README.md").read_text())
    folder, named = Path(), set()
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folder = Path(*folder.parts[:depth], name)
        assert (ROOT / folder).exists(), folder
        named.add(folder.as_posix())
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("vqcli/**/*.py")}
    assert {path for path in modules if "__" not in path} <= named


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes((ROOT / "vqcli" / "demo" / "parrots.webp").read_bytes())
    monkeypatch.chdir(tmp_path)
    for block in code_blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
