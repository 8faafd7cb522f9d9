"""vq eval lossless"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Baselines, Count, Model, Running, command, words

Data = Annotated[
    Path,
    typer.Argument(help="A folder of images, a data set, or a .tar, .npz or .safetensors pack.", show_default=False),
]
USUAL = "PNG,WebP"


@command
def lossless(
    data: Data,
    model: Model = None,
    quality: Annotated[
        float | None, typer.Option("--quality", "-q", help="Of the codes below.", show_default="3 for photo-2")
    ] = None,
    baselines: Baselines = None,
    count: Count = None,
    each: Annotated[bool, typer.Option("--all", help="A row for each file, not only the means.")] = False,
    running: Running = RUNNING,
) -> None:
    """Bytes of images that return pixel for pixel (vq encode --lossless), beside PNG and lossless WebP.

    Every file is decoded again and compared. Of data with a test part, or train and val, that is measured; of any
    other, all images. Bits/dim are bits for each channel of each pixel.

    \b
    vq eval lossless images/
    vq eval lossless cifar10.npz --model cifar10 -n 100
    """
    from dataclasses import asdict

    from vqcli.container.header import RESIDUAL_CODERS
    from vqcli.data.dataset import permutation
    from vqcli.errors import BadFile
    from vqcli.evaluation.image import lossless, rate_distortion
    from vqcli.zoo import loading, store

    loaded = loading.load(model or store.DEFAULTS["image"], running.device)
    pictures = rate_distortion.to_measure(data)
    order = permutation(len(pictures), 0, 0)[:count].tolist()
    with console.progress("storing", len(order), "image") as progress:
        stored = list(
            lossless.evaluate(
                loaded,
                [pictures.names[i] for i in order],
                lambda index: pictures.pixels(order[index]),
                quality=quality,
                codecs=words(USUAL if baselines is None else baselines),
                progress=progress,
                complain=console.leave_out,
            )
        )
    if not stored:
        raise BadFile("none of the images could be read")
    if running.as_json:
        console.emit_json([asdict(file) | {"bits_per_dim": file.bits_per_dim} for file in stored])
        return
    rows = [
        (
            one.codec,
            picture or f"mean of {one.pictures}",
            f"{one.size_bytes:,.0f}",
            "–" if one.codes_bytes is None else f"{one.codes_bytes:,.0f}",
            f"{one.bits_per_pixel:.3f}",
            f"{one.bits_per_dim:.4f}",
        )
        for picture, files in ([(file.picture, [file]) for file in stored] if each else [("", stored)])
        for one in lossless.means(files)
    ]
    console.emit_table(("codec", "images", "bytes", "of them codes", "bits/pixel", "bits/dim"), rows)
    used = {RESIDUAL_CODERS[file.coder] for file in stored if file.coder is not None}
    console.say(f"every file returned every pixel; lossless residuals by {' and '.join(sorted(used))}")
