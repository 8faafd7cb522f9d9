"""vq eval codes"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Model, Qualities, Running, command, numbers

Data = Annotated[
    Path, typer.Argument(help="A folder of images, or a .tar, .npz or .safetensors pack.", show_default=False)
]


@command
def codes(data: Data, model: Model = None, qualities: Qualities = None, running: Running = RUNNING) -> None:
    """Bits for each code and for each pixel under every coder, and under the priors of the model.

    Of a folder with train and val in it, val is measured; of any other, all images.

    \b
    vq eval codes images/
    vq eval codes animals/val --model tokens
    vq eval codes images/ --model photo --qualities 2,5,8 --json
    """
    from dataclasses import asdict

    from vqcli.errors import UsageError
    from vqcli.evaluation.image import rate_distortion
    from vqcli.zoo import loading, priors, store

    given = numbers(qualities)
    loaded = loading.load(model or store.DEFAULTS["image"], running.device)
    pictures = rate_distortion.to_measure(data)
    sampling, exact = priors.find(loaded.info, "pixelcnn"), priors.find(loaded.info, "exact")
    with console.progress("coding", len(pictures), "image") as progress:
        costs = rate_distortion.code_costs(
            loaded,
            pictures.names,
            pictures.pixels,
            given or rate_distortion.spread(loaded),
            progress=progress,
            complain=console.leave_out,
        )
    if sampling is not None:
        try:
            with console.progress("predicting codes") as progress:
                costs.append(rate_distortion.pixelcnn_cost(loaded, sampling, pictures, progress))
        except UsageError as error:  # these images are not for this prior; the coders' figures stand
            console.complain(error)
    loss = rate_distortion.loss_of_integers(exact) if exact else None
    if running.as_json:
        console.emit_json({"costs": [asdict(cost) for cost in costs], "loss_of_integers": loss})
        return
    console.emit_table(
        ("quality", "under", "images", "bits/code", "bytes", "bits/pixel"),
        [
            (
                f"{cost.quality:g}" if cost.quality else "–",
                cost.under,
                f"{cost.pictures:,}",
                f"{cost.bits_per_code:.3f}",
                "–" if cost.size_bytes is None else f"{cost.size_bytes:,}",
                f"{cost.bits_per_pixel:.4f}",
            )
            for cost in costs
        ],
    )
    console.say(
        "bits/code are those of the codes alone; bytes and bits/pixel those of whole files, where there are bytes"
    )
    if loss is not None:
        console.say(f"the prior in integers costs {loss:+.3%} bits against its float net, as its card measured")
