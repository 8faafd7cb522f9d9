"""The server as an application: its endpoints, in one table that openapi.py describes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vqcli import api
from vqcli.container import vqz
from vqcli.container.bounds import Limits
from vqcli.errors import BadFile, ModelError, OutputError, UnknownLabel, UsageError, VqError, explained
from vqcli.web import openapi, templates
from vqcli.web.bodies import Busy, TooLarge, TooSlow, Uploads, body_of
from vqcli.web.calls import CALLS
from vqcli.web.files import Facts, Files, Gone, Stored
from vqcli.web.guard import LOOPBACK, Guard, as_json
from vqcli.web.jobs import Full, Jobs, State, Trouble, trouble
from vqcli.web.library import Details, Library, Model
from vqcli.web.openapi import FILE, Endpoint
from vqcli.web.workspace import Workspace

MOST_JSON = 2**16  # bytes of the JSON of a call
LONGEST_WAIT_S = 30.0
STATUS: dict[type[VqError], int] = {
    Gone: 404,
    TooLarge: 413,
    TooSlow: 408,
    Busy: 503,
    Full: 503,
    UsageError: 400,
    BadFile: 422,
    UnknownLabel: 422,
    ModelError: 422,
    OutputError: 507,
    VqError: 500,
}
LIMITS = Limits(2**25, 300.0)
DEMO = Path(__file__).parent.parent / "demo"
EXAMPLES = {"photo": "parrots.webp", "sentence": "talk.opus", "clip": "maze.webp"}


@dataclass(frozen=True)
class Settings:
    """What a server takes, keeps and lets itself be called.

    most_upload   bytes of a file
    most_kept     bytes of all files that came or were made
    most_waiting  jobs in the queue
    longest_s     that a job may run
    limits        on pixels and seconds of files
    hosts         names that the header Host may have; with `addresses` also any IP address
    """

    most_upload: int = 64 * 10**6
    most_kept: int = 512 * 10**6
    most_waiting: int = 16
    longest_s: float = 1800.0
    limits: Limits = LIMITS
    hosts: tuple[str, ...] = LOOPBACK
    addresses: bool = False


class Server:
    """State of a server and its endpoints."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self.settings = settings
        self.workspace = Workspace(Files(settings.most_kept), library, settings.limits)
        self.jobs = Jobs(settings.most_waiting, settings.longest_s)
        self.uploads = Uploads()

    # ------------------------------------------------------------ files

    async def put_file(self, request: Request) -> Response:
        async with self.uploads.one():
            data = await body_of(request, self.settings.most_upload)
            if not data:
                raise BadFile("an empty file", "send the bytes of a file as the body")
            medium, coded = await run_in_threadpool(recognised, data, self.settings.limits)
        name = f"{medium}.vqz" if coded else medium
        return as_json(self.workspace.files.add(data, name, "application/octet-stream", medium, coded=coded), 201)

    async def put_example(self, request: Request) -> Response:
        name = EXAMPLES.get(request.path_params["name"])
        if name is None:
            raise Gone("there is no such example", f"known: {', '.join(EXAMPLES)}")
        data = (DEMO / name).read_bytes()
        medium, _ = await run_in_threadpool(recognised, data, Limits())
        return as_json(self.workspace.files.add(data, medium, "application/octet-stream", medium), 201)

    async def get_file(self, request: Request) -> Response:
        return content(self.workspace.files.get(request.path_params["id"]), request.headers.get("range"))

    async def drop_file(self, request: Request) -> Response:
        self.workspace.files.drop(request.path_params["id"])
        return Response(status_code=204)

    # ------------------------------------------------------------ jobs

    async def call(self, name: str, request: Request) -> Response:
        data = await body_of(request, MOST_JSON)
        try:
            asked = msgspec.json.decode(data, type=CALLS[name])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"the JSON of this call: {error}", "/openapi.json describes it") from None
        for id in (getattr(asked, "file", None), getattr(asked, "start", None)):
            if id is not None:
                self.workspace.files.get(id)  # what is gone is said now, not when it is its turn
        job = self.jobs.add(name, lambda progress: asked.run(self.workspace, progress))
        return as_json(self.jobs.state(job), 202)

    async def get_job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        try:
            wait_s = float(request.query_params.get("wait", "0"))
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise UsageError(f"wait is no number from 0 to {LONGEST_WAIT_S:g}")
        until = time.monotonic() + wait_s
        while not job.ended and time.monotonic() < until and not await request.is_disconnected():
            await asyncio.sleep(0.05)
        return as_json(self.jobs.state(job))

    async def cancel_job(self, request: Request) -> Response:
        return as_json(self.jobs.state(self.jobs.cancel(request.path_params["id"])))

    async def view(self, request: Request) -> Response:
        """The parts of the page that show what a job made, as HTML without a head."""
        job = self.jobs.get(request.path_params["id"])
        return HTMLResponse(await run_in_threadpool(templates.view, job.view or (), job.id))

    # ------------------------------------------------------------ models, pages

    async def get_models(self, request: Request) -> Response:
        return as_json(await run_in_threadpool(self.workspace.library.all))

    async def get_model(self, request: Request) -> Response:
        library, name = self.workspace.library, request.path_params["name"]
        return as_json(await run_in_threadpool(lambda: library.details(library.find(name, "image"))))

    async def get_page(self, request: Request) -> Response:
        return HTMLResponse(templates.explore(self.settings.most_upload))

    async def get_api_page(self, request: Request) -> Response:
        return HTMLResponse(templates.reference(openapi.document(ENDPOINTS)))

    async def get_schema(self, request: Request) -> Response:
        return as_json(openapi.document(ENDPOINTS))

    async def get_asset(self, request: Request) -> Response:
        text, kind = templates.asset(request.path_params["name"])
        return Response(text, media_type=kind)


def recognised(data: bytes, limits: Limits) -> tuple[str, bool]:
    """The medium of a file, and whether it is a .vqz file. Raises BadFile for a .vqz file whose header is damaged."""
    if data.startswith(vqz.MAGIC):
        return vqz.unpack(data, salvage=True, limits=limits).header.modality, True
    return api.modality_of(BytesIO(data)), False


def content(stored: Stored, ranges: str | None) -> Response:
    """A file, or the part that a player asks for (RFC 9110, section 14): one range, else all."""
    data, size = stored.data, len(stored.data)
    headers = {
        "content-disposition": "inline",  # without a name: the page has the client's
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, max-age=3600",
        "accept-ranges": "bytes",
    }
    found = re.fullmatch(r"bytes=(\d{0,12})-(\d{0,12})", ranges or "")
    if not found or not any(found.groups()):
        return Response(data, headers=headers, media_type=stored.facts.type)
    first, last = found.groups()
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= end:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    return Response(data[begin:end], 206, headers, stored.facts.type)


def refusal(error: Exception) -> Response:
    """An error as JSON, with a status by its kind; of a defect of vq `trouble` writes down where it arose."""
    if isinstance(error, HTTPException):
        return as_json({"error": Trouble("Http", str(error.detail))}, error.status_code)
    known = explained(error) or VqError("")
    status = next(status for kind, status in STATUS.items() if isinstance(known, kind))
    answer = as_json({"error": trouble(error)}, status)
    if status in (408, 413, 503):  # what still comes is not read
        answer.headers["connection"] = "close"
    if status == 503:
        answer.headers["retry-after"] = "5"
    return answer


async def of_routing(request: Request, error: Exception) -> Response:
    """What no endpoint is for."""
    return refusal(error)


def _calling(name: str) -> Callable[[Server, Request], Awaitable[Response]]:
    return lambda server, request: server.call(name, request)


def _summary(call: type[msgspec.Struct]) -> str:
    return (call.__doc__ or "").splitlines()[0]


ENDPOINTS = (
    Endpoint("POST", "/api/files", Server.put_file, "Send a file: its bytes are the body.", FILE, Facts, 201),
    Endpoint("GET", "/api/files/{id}", Server.get_file, "The bytes of a file; parts by the header Range.", gives=FILE),
    Endpoint("DELETE", "/api/files/{id}", Server.drop_file, "Forget a file.", status=204),
    *(
        Endpoint("POST", f"/api/{name}", _calling(name), _summary(call), call, State, 202)
        for name, call in CALLS.items()
    ),
    Endpoint(
        "GET",
        "/api/jobs/{id}",
        Server.get_job,
        "How far a job is, and what it made.",
        gives=State,
        query={"wait": "Seconds to wait for its end at most, 0 to 30."},
    ),
    Endpoint("DELETE", "/api/jobs/{id}", Server.cancel_job, "End a job that waits or runs.", gives=State),
    Endpoint("GET", "/api/models", Server.get_models, "The models of this server.", gives=list[Model]),
    Endpoint("GET", "/api/models/{name}", Server.get_model, "More of a model, which is loaded for it.", gives=Details),
)
PAGES = (
    Endpoint("GET", "/", Server.get_page, "The page."),
    Endpoint("GET", "/api", Server.get_api_page, "This description as a page."),
    Endpoint("GET", "/openapi.json", Server.get_schema, "This description."),
    Endpoint("GET", "/assets/{name}", Server.get_asset, "Style and script of the pages."),
    Endpoint("GET", "/views/{id}", Server.view, "What the page shows of a job."),
    Endpoint("POST", "/examples/{name}", Server.put_example, "A file that ships with vq, as if it had been sent."),
)


def build(library: Library, settings: Settings = Settings()) -> ASGIApp:
    """The application, whose lifespan is that of its queue."""
    server = Server(library, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        server.jobs.close()

    def route(endpoint: Endpoint) -> Route:
        async def handle(request: Request) -> Response:
            try:
                return await endpoint.handler(server, request)
            except Exception as error:
                return refusal(error)

        return Route(endpoint.path, handle, methods=[endpoint.method])

    app = Starlette(
        routes=[route(endpoint) for endpoint in (*ENDPOINTS, *PAGES)],
        exception_handlers={HTTPException: of_routing},
        lifespan=lifespan,
    )
    return Guard(app, settings.hosts, settings.addresses)
