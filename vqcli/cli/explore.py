"""vq explore"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import Device, Open, command

EXTRA = "pip install 'vqcli[web]'"


@dataclass(frozen=True)
class Taken:
    """How large the files may be."""

    max_upload: Annotated[float, typer.Option(help="Megabytes of a file that is sent.", min=0.001)] = 64
    max_pixels: Annotated[int, typer.Option(help="Pixels of an image, or of a frame of a clip.", min=1)] = 2**25
    max_seconds: Annotated[float, typer.Option(help="Seconds of a recording or clip.", min=0.001)] = 300


@command
def explore(
    host: Annotated[str, typer.Option(help="Where to listen: on other addresses strangers can come in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 is any that is free.", min=0, max=65535)] = 8765,
    opened: Open = False,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Name or folder of a model to take first; several times for several."),
    ] = None,
    taken: Taken = Taken(),
    device: Device = "auto",
) -> None:
    """Show a page on this machine where files are dropped, coded, decoded, converted and sampled; a JSON API with it.

    It ends with Ctrl-C. Nothing that is sent is written to disk under a name, and nothing is asked of the network.

    \b
    vq explore --open
    vq explore --model my-photo --port 9000
    vq explore --max-upload 200 --max-seconds 3600
    curl --data-binary @photo.png http://127.0.0.1:8765/api/files
    """
    from importlib.util import find_spec

    from vqcli.errors import UsageError

    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"vq explore needs {' and '.join(missing)}", EXTRA)
    from vqcli.container.bounds import Limits
    from vqcli.web import serving
    from vqcli.web.app import Settings
    from vqcli.web.library import Library
    from vqcli.zoo import store

    library = Library(device, tuple(store.find(name) for name in models or ()))
    limits = Limits(taken.max_pixels, taken.max_seconds)
    most = round(taken.max_upload * 1e6)
    settings = Settings(most_upload=most, most_kept=max(Settings.most_kept, 4 * most), limits=limits)
    with serving.listening(host, port) as place:
        url = serving.url_of(place, host)
        console.say(f"{url} (the API: {url}api), until Ctrl-C")
        if not serving.is_loopback(host):
            console.say(
                f"warning: whoever can reach {host} can use this server, and there is no password; "
                "leave --host out, or put it behind one that asks for one"
            )
        if opened:
            console.open_page(url)  # the socket takes the browser's request until the server is up
        try:
            serving.serve(place, host, library, settings)
        except KeyboardInterrupt:  # which is how it ends
            console.say("ended")
