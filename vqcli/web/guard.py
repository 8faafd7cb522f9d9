"""What is refused before anything is read, and what every answer says to browsers.

A server on one's own machine can be reached by every page that one's browser shows. Two things keep them out:

- The header Host must be an address or name that this server goes by. A page whose own name is made to lead to
  127.0.0.1 (DNS rebinding) sends that name.
- What other sites ask for by the browser of a person here is refused by Origin and Sec-Fetch-Site, which pages cannot
  set; only a link to a page of vq may be followed, not one to a call of the API.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqcli.web.jobs import Trouble

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD")
LINKED = ("/", "/api", "/openapi.json")  # paths that a link of another site may lead to
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " media-src 'self' data: blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


class Guard:
    """Wraps an application. `names` are those that the header Host may have; with `addresses` also any IP address."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = LOOPBACK, addresses: bool = False) -> None:
        self.app, self.names, self.addresses = app, {name.lower() for name in names}, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self.refused(scope["method"], scope["path"], Headers(scope=scope))
        if refused is None:
            await self.app(scope, receive, answer)
        else:
            await as_json({"error": refused}, 403)(scope, receive, answer)

    def refused(self, method: str, path: str, headers: Headers) -> Trouble | None:
        """Why a request is refused, None if it is not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(_parsed(f"//{hosts[0]}").hostname or ""):
            return Trouble("Forbidden", "the header Host is none of this server", "ask it by its own address")
        origin = headers.get("origin")
        if origin is not None and _parsed(origin).netloc != hosts[0]:
            return Trouble("Forbidden", "requests of other sites are refused")
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        followed = mode == "navigate" and headers.get("sec-fetch-dest") == "document"
        followed = followed and method in SAFE and path in LINKED
        if site not in ("same-origin", "none") and not followed:
            return Trouble("Forbidden", "requests of other sites are refused")
        return None

    def _known(self, name: str) -> bool:
        if name.lower() in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses


def _parsed(url: str) -> SplitResult:
    """The parts of a URL, all of them empty if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def as_json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
