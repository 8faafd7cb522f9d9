"""vq pack"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import Force

SHOWN = 10  # of the images that were left out


def pack(
    data: Annotated[
        list[Path], typer.Argument(help="Folders, .tar files, .npz arrays or other packs.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new .safetensors file.", show_default=False)],
    size: Annotated[
        int | None,
        typer.Option(help="Reduce the shorter side to this many pixels if it is longer.", min=1, show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Pack images into one file of decoded pixels, which vq train reads without decoding.

    \b
    vq pack images/ -o images.safetensors
    vq pack animals/ more.tar -o small.safetensors --size 144
    """
    from vqcli.data import packs
    from vqcli.data.sources import open_sources
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing

    if output.suffix != ".safetensors":
        raise UsageError(f"{output} does not end in .safetensors", "by that it is known for a pack")
    refuse_existing(output, force)  # before the work, not after it
    with console.progress("packing") as progress:
        packed = packs.write(open_sources(data), output, size=size, force=force, progress=progress)
    classes = f" in {len(packed.classes)} classes" if packed.classes else ""
    console.say(f"{output}: {console.plural(packed.pictures, 'image')}{classes}, {console.size(packed.size_bytes)}")
    if packed.skipped:
        console.say(f"{console.plural(len(packed.skipped), 'image')} left out:")
        for reason in list(packed.skipped.values())[:SHOWN]:
            console.say(f"  {reason}")
        if len(packed.skipped) > SHOWN:
            console.say(f"  and {len(packed.skipped) - SHOWN} more")
