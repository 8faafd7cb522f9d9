"""Bodies of requests, counted while they come: one that is too long is refused at the first byte too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from vqcli.errors import VqError
from vqcli.files import size_text

LONGEST_S = 300.0  # that a body may take to come
AT_ONCE = 4  # uploads that may come side by side, each of which takes its bytes


class TooLarge(VqError):
    """A body of more bytes than are taken."""


class Busy(VqError):
    """As many uploads come as may."""


class TooSlow(VqError):
    """A body that does not come to an end, or that was broken off."""


class Uploads:
    """Counts uploads until they are recognised, so that together they take no more than `AT_ONCE` bodies."""

    def __init__(self) -> None:
        self.coming = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Raises Busy."""
        if self.coming >= AT_ONCE:
            raise Busy(f"{self.coming} files are being sent already", "try again in a moment")
        self.coming += 1
        try:
            yield
        finally:
            self.coming -= 1


async def body_of(request: Request, most_bytes: int) -> bytes:
    """The body of a request. Raises TooLarge, at its header or while it comes, and TooSlow."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most_bytes:
        raise _too_large(most_bytes)
    data = bytearray()
    try:
        async with asyncio.timeout(LONGEST_S):
            async for piece in request.stream():
                if len(data) + len(piece) > most_bytes:
                    raise _too_large(most_bytes)
                data += piece
    except TimeoutError:
        raise TooSlow(f"the body did not come within {LONGEST_S:.0f} s", "send it again") from None
    except ClientDisconnect:
        raise TooSlow("the body was broken off", "send it again") from None
    return bytes(data)


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"more than {size_text(most_bytes)}, as much as is taken", "vq explore --max-upload allows more")
