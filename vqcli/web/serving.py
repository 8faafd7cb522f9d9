"""A socket, and uvicorn on it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace

from vqcli.errors import OutputError, UsageError
from vqcli.web.app import Settings, build
from vqcli.web.library import Library

CONNECTIONS = 64  # at once; more are answered with 503
IDLE_S, FAREWELL_S = 10, 3  # how long an idle connection stays, and how long answers may take when the server ends


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any. Raises UsageError for no address, OutputError if it is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"--host {host} is no address of this machine: {error.strerror or error}") from None
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot listen at {host}:{port}: {reason}", "--port names another port, 0 any") from None


def url_of(place: socket.socket, host: str) -> str:
    """Where a browser finds the server."""
    address, port = place.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(place: socket.socket, host: str, library: Library, settings: Settings) -> None:
    """Answer until the process is told to end (SIGINT, SIGTERM)."""
    server(host, library, settings).run(sockets=[place])


def server(host: str, library: Library, settings: Settings):  # type: ignore[no-untyped-def]  # uvicorn.Server
    """uvicorn with the application, ready to run."""
    import uvicorn

    if not is_loopback(host):
        settings = replace(settings, hosts=(*settings.hosts, host), addresses=True)
    config = uvicorn.Config(
        build(library, settings),
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=FAREWELL_S,
    )
    return uvicorn.Server(config)
