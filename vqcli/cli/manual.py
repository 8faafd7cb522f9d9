"""vq man: a page of manual for the command and for each of its commands, from what --help says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcli.cli import console

SECTION = 1


def man(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the pages go, such as ~/.local/share/man/man1.")],
) -> None:
    """Write pages of manual: vq.1, vq-encode.1 and so on.

    \b
    vq man ~/.local/share/man/man1
    man vq-encode
    """
    from vqcli.files import make_folder, replacing

    make_folder(folder)
    written = dict(pages(context.find_root().command))
    for name, text in written.items():
        with replacing(folder / name, force=True) as stream:
            stream.write(text.encode())
    console.say(f"{folder}: {console.plural(len(written), 'page')}; man -l {folder / 'vq.1'} shows the first")


def pages(command: Any, name: str = "vq", above: Any = None) -> Iterator[tuple[str, str]]:
    """(name of its file, text) of the page of a command, and of those of the commands below it."""
    context = command.make_context(name, [], parent=above, resilient_parsing=True)
    yield f"{name.replace(' ', '-')}.{SECTION}", _page(command, name, context)
    for word, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from pages(below, f"{name} {word}", context)


def _page(command: Any, name: str, context: Any) -> str:
    from vqcli import __version__

    first, *paragraphs = (command.help or "").strip().split("\n\n")
    title = name.replace(" ", "-")
    lines = [f'.TH "{_plain(title.upper())}" "{SECTION}" "" "vq {__version__}" "vq"']
    lines += [".SH NAME", f"{_plain(title)} \\- {_plain(_joined(first))}"]
    usage = " ".join(command.collect_usage_pieces(context))
    lines += [".SH SYNOPSIS", f".B {_plain(name)}", _plain(usage)]
    texts = [text for text in paragraphs if not text.startswith("\b")]
    examples = [text for text in paragraphs if text.startswith("\b")]
    if texts:
        lines.append(".SH DESCRIPTION")
        for text in texts:
            lines += [".PP", _plain(_joined(text))]
    records = [(option, option.get_help_record(context)) for option in command.get_params(context)]
    arguments = [record for each, record in records if record and each.param_type_name == "argument"]
    options = [record for each, record in records if record and each.param_type_name == "option"]
    lines += _listed("ARGUMENTS", arguments) + _listed("OPTIONS", options)
    below = [(f"{name} {word}", each) for word, each in getattr(command, "commands", {}).items() if not each.hidden]
    lines += _listed("COMMANDS", [(word, _joined((each.help or "").split("\n\n")[0])) for word, each in below])
    if examples:
        lines += [".SH EXAMPLES", ".nf"]
        lines += [_plain(line) for text in examples for line in text.removeprefix("\b").strip().splitlines()]
        lines.append(".fi")
    if command.epilog:
        lines += [".SH NOTES", _plain(command.epilog)]
    other = [word for word, _ in below] + ([] if name == "vq" else [name.rpartition(" ")[0]])
    lines += [".SH SEE ALSO", ", ".join(f"{_plain(word.replace(' ', '-'))}({SECTION})" for word in other)]
    return "\n".join(lines) + "\n"


def _listed(title: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    return [f".SH {title}", *(line for what, why in rows for line in (".TP", f"\\fB{_plain(what)}\\fR", _plain(why)))]


def _joined(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Text that roff prints as it is, hyphens as they are typed."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
