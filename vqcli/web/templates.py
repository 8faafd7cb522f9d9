"""The pages of the server: templates of this folder, with the parts, style and script of vqcli/pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vqcli import __version__
from vqcli.files import size_text
from vqcli.pages import page
from vqcli.pages.parts import Part
from vqcli.web.calls import CALLS
from vqcli.web.files import Gone

HERE = Path(__file__).parent
ASSETS = {
    "style.css": ("text/css", (page.HERE / "style.css", HERE / "explore.css")),
    "script.js": ("text/javascript", (page.HERE / "script.js", HERE / "explore.js")),
}


def explore(most_upload: int) -> str:
    """The page where files are dropped."""
    template = page.environment(HERE).get_template("explore.html.jinja")
    return str(template.render(most_upload=most_upload, most=size_text(most_upload), version=__version__))


def view(parts: Sequence[Part], id: str) -> str:
    """Parts without a page around them, for a page to take in; ids in them begin with `id`."""
    return str(page.environment(HERE).get_template("view.html.jinja").render(parts=parts, id=id))


def reference(document: Mapping[str, Any]) -> str:
    """The page of the API, from its description."""
    taken = {name.capitalize() for name in CALLS}  # whose fields stand with their endpoints
    template = page.environment(HERE).get_template("api.html.jinja")
    return str(template.render(document=document, fields=fields, kind_of=_type, taken=taken, version=__version__))


@cache
def asset(name: str) -> tuple[str, str]:
    """Text and media type of a style or script. Raises Gone."""
    if name not in ASSETS:
        raise Gone("there is no such file")
    kind, paths = ASSETS[name]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths), kind


def fields(schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of each field of the object that a schema refers to."""
    if "$ref" not in schema:
        return []
    known = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    needed = known.get("required", ())
    return [
        (
            name,
            _type(one),
            "needed" if name in needed else json.dumps(one.get("default")),
            one.get("description")
            or next((each["description"] for each in one.get("anyOf", ()) if "description" in each), ""),
        )
        for name, one in known.get("properties", {}).items()
    ]


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words: number from 1 to 100."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(text for each in schema["anyOf"] if (text := _type(each)) != "null")
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"] if each is not None)
    text = str(schema.get("type", "anything"))
    if text == "array":
        items = schema.get("items") or schema.get("prefixItems", [{}])[0]
        text = f"list of {_type(items)}"
    for key, word in (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    ):
        if key in schema:
            text += f" {word} {schema[key]:g}"
    return text
