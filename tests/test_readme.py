"""The documents agree with the code: they show every command, their `vq` lines parse, their links lead to files, the
Python of README.md runs, and FORMAT.md describes what the container reads."""

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
FOLDERS = ("models", "tests", "vqcli")
DOCUMENTS = [ROOT / "README.md", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
COMMANDS = typer.main.get_command(app)


def name_of(document):
    return document.relative_to(ROOT).as_posix()


def code_blocks(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def without_code(text):
    """Text without blocks and spans of code, where brackets are no links."""
    return re.sub(r"`[^`\n]*`", "code", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def vq_lines():
    """Every `vq ...` in the shell blocks, without prompts, comments, pipes and redirections, and where it stands."""
    found = {}
    for document in DOCUMENTS:
        lines = [line for block in code_blocks("sh", document.read_text()) for line in block.splitlines()]
        for part in (part.strip().removeprefix("$ ") for line in lines for part in re.split(r"\||&&|#|;|>|<", line)):
            if part.startswith("vq "):
                found.setdefault(part, name_of(document))
    return dict(sorted(found.items()))


def commands(group, prefix=""):
    for name, command in group.commands.items():
        yield prefix + name
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("name", list(commands(COMMANDS)))
def test_every_command_is_shown(name):
    assert any(f"{line} ".startswith(f"vq {name} ") for line in vq_lines()), f"no document shows vq {name}"


@pytest.mark.parametrize(("line", "document"), vq_lines().items())
def test_every_line_parses(line, document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where -o codes/ makes a folder
    command, words = COMMANDS, shlex.split(line)[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    context = command.make_context(line, words)  # parses and checks options, runs nothing
    assert context is not None, document


def test_every_command_has_an_example():
    def leaves(group):
        for command in group.commands.values():
            yield from leaves(command) if hasattr(command, "commands") else [command]

    for command in leaves(COMMANDS):
        assert re.search(r"^\s*vq ", command.help or "", re.MULTILINE), command.name


def anchors(text):
    """What links to the headings of a document end in, as GitHub derives it."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document):
    """Images and links to files, and to headings of documents."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        to = (document.parent / path).resolve() if path else document
        assert to.is_relative_to(ROOT.resolve()) and to.exists(), f"{name_of(document)} links to {target}"
        assert not heading or heading in anchors(to.read_text()), f"{name_of(document)} links to {target}"


def test_every_document_can_be_found():
    """Each but the cards, which models/README.md lists, is linked in README.md."""
    readme = without_code((ROOT / "README.md").read_text())
    for document in DOCUMENTS[1:]:
        if document.parent.parent != ROOT / "models":
            assert f"]({name_of(document)})" in readme, f"README.md does not link to {name_of(document)}"


def test_the_readme_is_short_and_has_the_line_of_the_tests():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 210
    lines = [line for block in code_blocks("sh", readme) for line in block.splitlines()]
    assert "pip install '.[dev]' && pytest" in lines  # .ci/run runs it


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
    assert "versions 1 to 4" in text and vqz.VERSION == 4
    assert ", ".join(f"{number} {name}" for number, name in enumerate(header.MODALITIES, 1)) in layout
    assert ids(section("Coders", text)) == coders.names()
    assert ids(section("Lossless residual", text)) == header.RESIDUAL_CODERS
    assert set(header.RESIDUAL_CODERS) == set(lossless.CODERS)


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
    codes = coders.decode("packed", parsed.payloads[0], (1, *header.grid), coders.Given(header.codebook_sizes))
    assert codes.tolist() == [[[3]]] and coders.name_of(header.coder) == "packed"
    assert header.codes_crcs == (crc32(np.array([3], "<u2").tobytes()),)
    assert f"these {len(data)} bytes" in section("Worked example", FORMAT.read_text())


def test_the_file_tree_is_true():
    """Each line of the tree names a file or folder that exists, and no module is missing."""
    blocks = code_blocks("text", (ROOT / "vqcli" / "README.md").read_text())
    (tree,) = (block for block in blocks if block.startswith("vqcli/\n"))
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
    from PIL import Image

    demo = ROOT / "vqcli" / "demo"
    (tmp_path / "photo.png").write_bytes((demo / "parrots.webp").read_bytes())
    (tmp_path / "talk.wav").write_bytes((demo / "talk.opus").read_bytes())
    with Image.open(demo / "maze.webp") as clip:
        clip.save(tmp_path / "clip.gif", save_all=True)
    monkeypatch.chdir(tmp_path)
    shared = {}  # later blocks use what the first imports
    for block in code_blocks("python", (ROOT / "README.md").read_text()):
        exec(compile(block, "README.md", "exec"), shared)
