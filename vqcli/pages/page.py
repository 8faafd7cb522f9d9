"""Parts to one HTML file that asks nothing of the network and opens from a folder.

The policy in its head forbids everything but what lies in the page. Text is escaped by the templates.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from vqcli import __version__
from vqcli.files import replacing
from vqcli.pages.parts import Page

HERE = Path(__file__).parent
BUDGET = 8_000_000  # bytes of a page, which makers of pages keep to by showing less


@cache
def environment(*folders: Path) -> Any:
    """Of jinja2, with the templates of these folders and of this one."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        script=(HERE / "script.js").read_text(encoding="utf-8"),
    )
    return found


def render(page: Page) -> str:
    """The HTML of a page."""
    return str(environment().get_template("page.html.jinja").render(page=page, made=made(page.made_by)))


def made(by: str) -> str:
    """What the foot of a page says of the command that made it."""
    return f"{by}, vq {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def write(page: Page, target: Path, *, force: bool = False) -> int:
    """Write a page to a file, and return its bytes. Raises UsageError if it exists without `force`, OutputError."""
    data = render(page).encode(errors="replace")
    with replacing(target, force=force) as stream:
        stream.write(data)
    return len(data)
