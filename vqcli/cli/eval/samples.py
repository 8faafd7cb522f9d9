"""vq eval samples"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, Force


def samples(
    data: Annotated[
        Path,
        typer.Argument(help="Real pictures, a subfolder for each class; or a .tar, .npz or pack.", show_default=False),
    ],
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model with a prior.", show_default="the one that has one")
    ] = None,
    prior: Annotated[str, typer.Option(help="pixelcnn, or uniform alone: every code alike.")] = "pixelcnn",
    count: Annotated[int, typer.Option("-n", help="How many pictures to draw of each class.", min=1)] = 20,
    temperature: Annotated[float, typer.Option(help="Below 1: safer and duller.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k most probable codes only.", show_default="all")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the codes that hold this share of probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: more of what sets the class apart.")] = 1.0,
    minutes: Annotated[float, typer.Option(help="How long the classifier may learn, at most.", min=0.01)] = 3.0,
    seed: Annotated[int, typer.Option(help="Of the pictures drawn, and of the classifier.", min=0)] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The drawn pictures, a row for each class.", show_default=False),
    ] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How often a small classifier names the class that a drawn picture should show.

    It learns from the real pictures after they went through the model, so that it judges what a picture shows, not
    the model's texture. Beside the rate on drawn pictures stand those on real held-out ones and on random codes.

    \b
    vq eval samples animals/ --model tokens
    vq eval samples animals/ --model tokens --guidance 2 -n 50 --json
    vq eval samples animals/ -n 8 -o drawn.png
    """
    from dataclasses import asdict

    from vqcli.data.dataset import Dataset
    from vqcli.evaluation.image import classifier, rate_distortion
    from vqcli.files import refuse_existing
    from vqcli.media import drawing, image
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.image import data_of, find_model
    from vqcli.zoo import loading, priors

    sampling = Sampling(temperature, top_k, top_p, guidance)
    if output:
        refuse_existing(output, force)
    loaded = loading.load(model if model is not None else find_model(), device)
    source = rate_distortion.open_pictures(data)
    real, held_out = Dataset(source, held_out=False), Dataset(source, held_out=True)
    piece = data_of(priors.find(loaded.info, "pixelcnn"))

    # drawn first: what does not fit together shows before the classifier learns
    drawn = {}
    for name in dict.fromkeys((prior, "uniform")):
        with console.progress(f"drawing with {loaded.info.name}, {name}") as report:
            drawn[name] = classifier.draw(
                loaded, name, real.classes, count, sampling=sampling, seed=seed, report=report
            )
    if output:
        shown, _ = drawn[prior]
        rows = [list(shown.pixels[first : first + count]) for first in range(0, len(shown.pixels), count)]
        names = [name or "" for name in shown.labels[::count]]
        image.write(output, drawing.grid(rows, names if any(names) else None), force=force)
        console.say(f"{console.plural(len(shown.pixels), 'picture')} -> {output}")
    with console.progress(
        f"learning {len(real.classes)} classes from {console.plural(len(real), 'picture')}"
    ) as report:
        judged = classifier.train(loaded, real, piece, minutes=minutes, seed=seed, report=report)
    rates = {"real, held out": judged.rate(*classifier.through(loaded, held_out, piece))}
    rates |= {f"drawn, {name}": judged.rate(pictures.pixels, labels) for name, (pictures, labels) in drawn.items()}

    chance = {"top_1": 1 / len(judged.classes), "top_3": min(1.0, classifier.TOP / len(judged.classes))}
    if as_json:
        told = {"pictures": judged.pictures, "passes": round(judged.passes, 1), "weights": judged.weights}
        facts = {"model": loaded.info.name, "prior": prior, "sampling": asdict(sampling), "seed": seed}
        console.emit_json(
            facts
            | {"classifier": told, "chance": chance, "rates": {name: asdict(rate) for name, rate in rates.items()}}
        )
        return
    shares = [(name, f"{rate.pictures:,}", f"{rate.top_1:.1%}", f"{rate.top_3:.1%}") for name, rate in rates.items()]
    chances = ("chance", "–", f"{chance['top_1']:.1%}", f"{chance['top_3']:.1%}")
    console.emit_table(("pictures", "number", "named first", f"among the first {classifier.TOP}"), [*shares, chances])
    console.say(
        f"classifier: {judged.weights / 1e6:.2f} M weights, {len(judged.classes)} classes, {judged.passes:.1f} passes "
        f"over {judged.pictures:,} real pictures of {piece.crop} x {piece.crop} as {loaded.info.name} gives them back"
    )
