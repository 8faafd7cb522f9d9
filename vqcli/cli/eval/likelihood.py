"""vq eval likelihood"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Count, Model, Running, command, only_one, split_model

Data = Annotated[
    list[Path],
    typer.Argument(
        help="Images of the size it was trained on: a data set with a test part (CIFAR-10, MNIST), a folder.",
        show_default=False,
    ),
]


@command
def likelihood(data: Data, model: Model = None, count: Count = None, running: Running = RUNNING) -> None:
    """Bits per dimension of images under a model: a bound, with its definition beside it.

    For a VQ-VAE with the uniform prior, with the learned one, and with the bytes of real files; for the baselines
    vae2d and vimco2d their own bounds. Nets with so few codes that all can be tried also get p(x) itself.

    \b
    vq eval likelihood cifar-10-batches-bin/ --model cifar10
    vq eval likelihood cifar10.npz --model runs/cifar10-vae -n 1000
    vq eval likelihood fashion-mnist/ --model fashion-mnist --json
    """
    from dataclasses import asdict

    from vqcli.errors import UsageError
    from vqcli.evaluation.image import likelihood, rate_distortion
    from vqcli.zoo import loading

    data, model = split_model(data, model)
    if model is None:
        raise UsageError("whose likelihood?", "--model NAME, of a model that has one: cifar10, fashion-mnist")
    loaded = loading.load(model, running.device)
    pictures = rate_distortion.to_measure(only_one(data))
    with console.progress("measuring", min(count or len(pictures), len(pictures)), "image") as progress:
        bounds = likelihood.measure(loaded, pictures, count=count, progress=progress)
    if running.as_json:
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
        f"bits/dim: -log2 over pixels x channels, mean over {console.plural(bounds[0].pictures, 'image')}; the "
        f"decoder's distribution gives each value 0 .. 255 its mass; an upper bound, so lower is better"
    )
    if loaded.net.codebook_sizes:
        nats = likelihood.equation_7(loaded, pictures, count or len(pictures))
        console.say(
            f"the report's eq. 7: {nats:.3f} nats for a value, {likelihood.UNIT_DENSITY:.3f} of which a perfect "
            f"reconstruction has as well"
        )
