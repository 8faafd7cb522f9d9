"""The description of the API (OpenAPI 3.1), made from its endpoints and from the types that they take and give."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vqcli import __version__
from vqcli.web.jobs import Trouble

FILE = "file"  # the bytes of a file
ABOUT = """Files are sent as they are and get an id. Calls name files by id and become jobs, of which one runs at a \
time; a job that is done names the files that it made. The oldest files go when there is no more room."""


class Refused(msgspec.Struct, frozen=True):
    """What is answered with a status from 400 on."""

    error: Trouble


@dataclass(frozen=True)
class Endpoint:
    """A method and a path, what answers it, and what is said of it.

    takes, gives  of its bodies: a type of msgspec, FILE, or None
    query         parameters with what they are
    """

    method: str
    path: str
    handler: Callable[..., Any]
    summary: str
    takes: Any = None
    gives: Any = None
    status: int = 200
    query: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        """Those in the path."""
        return re.findall(r"{(\w+)}", self.path)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole description, as JSON may have it."""
    types = [each for one in endpoints for each in (one.takes, one.gives) if each not in (None, FILE)]
    schemas, components = msgspec.json.schema_components([*types, Refused], ref_template="#/components/schemas/{name}")
    known = {repr(each): schema for each, schema in zip([*types, Refused], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vq", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(one: Endpoint, known: dict[str, Any]) -> dict[str, Any]:
    words = re.findall(r"\w+", one.path.removeprefix("/api"))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in one.parameters
    ] + [
        {"name": name, "in": "query", "description": text, "schema": {"type": "number"}}
        for name, text in one.query.items()
    ]
    answer: dict[str, Any] = {"description": one.summary} | _content(one.gives, known)
    refused = {"description": "What is wrong, and what to do."} | _content(Refused, known)
    body = {"requestBody": {"required": True} | _content(one.takes, known)} if one.takes else {}
    return {
        "operationId": "_".join([one.method.lower(), *words]),
        "summary": one.summary,
        "parameters": parameters,
        **body,
        "responses": {str(one.status): answer, "default": refused},
    }


def _content(of: Any, known: dict[str, Any]) -> dict[str, Any]:
    if of is None:
        return {}
    if of == FILE:
        return {"content": {"application/octet-stream": {}}}
    return {"content": {"application/json": {"schema": known[repr(of)]}}}
