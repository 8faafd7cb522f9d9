"""vq eval likelihood"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device


def likelihood(
    model: Annotated[str, typer.Argument(help="Name or folder of a model with a likelihood.", show_default=False)],
    data: Annotated[
        Path,
        typer.Argument(
            help="Pictures of the size it was trained on: a data set with a test part (CIFAR-10, MNIST), a folder.",
            show_default=False,
        ),
    ],
    count: Annotated[
        int | None, typer.Option("-n", help="So many pictures only.", min=1, show_default="all that are held out")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Bits per dimension of pictures under a model: a bound, with its definition beside it.

    For a VQ-VAE with the uniform prior, with the learned one, and with the bytes of real files; for the baselines
    vae2d and vimco2d their own bounds. Nets with so few codes that all can be tried also get p(x) itself.

    \b
    vq eval likelihood cifar10 cifar-10-batches-bin/
    vq eval likelihood runs/cifar10-vae cifar10.npz -n 1000
    vq eval likelihood fashion-mnist fashion-mnist/ --json
    """
    from dataclasses import asdict

    from vqcli.evaluation.image import likelihood, rate_distortion
    from vqcli.zoo import loading

    loaded = loading.load(model, device)
    pictures = rate_distortion.to_measure(data)
    with console.progress(
        f"measuring {console.plural(min(count or len(pictures), len(pictures)), 'picture')}"
    ) as report:
        bounds = likelihood.measure(loaded, pictures, count=count, report=report)
    if as_json:
        console.emit_json([asdict(bound) | {"definition": bound.definition} for bound in bounds])
        return
    console.emit_table(
        ("latents under", "bits/dim", "+-", "reconstruction", "latents", "definition"),
        [
            (
                bound.under,
                f"{bound.bits_per_dim:.3f}",
                f"{bound.error:.3f}",
                "–" if bound.reconstruction is None else f"{bound.reconstruction:.3f}",
                "–" if bound.prior is None else f"{bound.prior:.3f}",
                bound.definition,
            )
            for bound in bounds
        ],
    )
    console.say(
        f"bits/dim: -log2 over pixels x channels, mean over {console.plural(bounds[0].pictures, 'picture')}; the "
        f"decoder's distribution gives each value 0 .. 255 its mass; an upper bound, so lower is better"
    )
