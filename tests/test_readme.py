"""The README keeps its word: every command is in it, its `vq` lines parse, its Python runs."""

import re
import shlex
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import typer

from vqcli.cli.main import app

ROOT = Path(__file__).parent.parent
FORMAT = ROOT / "vqcli" / "container" / "FORMAT.md"
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


def section(title, text):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def ids(text):
    """What a table of coders says: {id: name}."""
    return {int(number): name for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}


def test_the_format_is_that_of_the_code():
    from vqcli.codec import lossless
    from vqcli.container import header, vqz
    from vqcli.entropy import coders

    text = FORMAT.read_text()
    layout = section("Layout", text)
    assert f"magic {vqz.MAGIC.hex(' ').upper()} " in layout
    assert "versions 1 and 2" in text and vqz.VERSION == 2
    assert ", ".join(f"{number} {name}" for number, name in enumerate(header.MODALITIES, 1)) in layout
    assert ids(section("Coders", text)) == coders.NAMES
    assert ids(section("Lossless residual", text)) == header.REMAINDERS
    assert set(header.REMAINDERS) == set(lossless.CODERS)


def test_the_worked_example_of_the_format():
    """Its bytes are a file, the one that the comments describe."""
    from vqcli.container import vqz
    from vqcli.entropy import coders

    (block,) = code_blocks("text", section("Worked example", FORMAT.read_text()))
    rows = re.findall(r"^((?:[0-9A-F]{2} )*[0-9A-F]{2})  +\S.*$", block, re.MULTILINE)
    assert len(rows) == len(block.splitlines())
    data = bytes.fromhex("".join(rows))
    parsed = vqz.unpack(data)
    header = parsed.header
    assert vqz.pack(header, parsed.payloads) == data
    assert (header.version, header.modality, header.size, header.grid) == (1, "image", (2, 1, 1), (1, 1))
    assert (header.model, header.codebook_sizes, header.levels, header.metadata) == ("m", (4,), 1, {})
    codes = coders.decode("packed", parsed.payloads[0], (1, *header.grid), header.codebook_sizes, None)
    assert codes.tolist() == [[[3]]] and coders.name_of(header.coder) == "packed"
    assert header.codes_crcs == (crc32(np.array([3], "<u2").tobytes()),)
    assert f"these {len(data)} bytes" in section("Worked example", FORMAT.read_text())


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
