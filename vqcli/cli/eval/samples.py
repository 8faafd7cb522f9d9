"""vq eval samples"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import DRAWS, RUNNING, Count, Draws, Minutes, Model, Running, Seed, command

if TYPE_CHECKING:
    from vqcli.sampling.image import Samples

Data = Annotated[
    Path,
    typer.Argument(help="Real images, a subfolder for each class; or a .tar, .npz or pack.", show_default=False),
]
COUNT = 20  # of each class


@command
def samples(
    data: Data,
    model: Model = None,
    prior: Annotated[str, typer.Option(help="pixelcnn, or uniform alone: every code alike.")] = "pixelcnn",
    count: Count = None,
    draws: Draws = DRAWS,
    minutes: Minutes = 3.0,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The sampled images, a row for each class.", show_default=False),
    ] = None,
    running: Running = RUNNING,
) -> None:
    """How often a small classifier names the class that a sampled image should show.

    It learns from the real images after they went through the model, so that it judges what an image shows, not
    the model's texture. Beside the rate on sampled images stand those on real held-out ones and on random codes.

    \b
    vq eval samples animals/ --model tokens
    vq eval samples animals/ --model tokens --guidance 2 -n 50 --json
    vq eval samples animals/ -n 8 -o sampled.png
    """
    from vqcli.data.dataset import Dataset
    from vqcli.evaluation.image import classifier, rate_distortion
    from vqcli.files import refuse_existing
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.image import data_of, find_model
    from vqcli.zoo import loading, priors

    sampling, seed, count = Sampling(**asdict(draws)), seed or 0, count or COUNT
    if output:
        refuse_existing(output, running.force)
    loaded = loading.load(model if model is not None else find_model(), running.device)
    source = rate_distortion.open_images(data)
    real, held_out = (Dataset(source, held_out=kept) for kept in (False, True))
    piece = data_of(priors.find(loaded.info, "pixelcnn"))

    # sampled first: what does not fit together shows before the classifier learns
    made = {}
    for name in dict.fromkeys((prior, "uniform")):
        with console.progress(f"sampling from {loaded.info.name}, {name}") as progress:
            options: Any = {"sampling": sampling, "seed": seed, "progress": progress}
            made[name] = classifier.sample(loaded, name, real.classes, count, **options)
    if output:
        _write(made[prior][0], count, output, running.force)
    with console.progress(f"learning {len(real.classes)} classes from {len(real):,} images") as progress:
        judge = classifier.train(loaded, real, piece, minutes=minutes, seed=seed, progress=progress)
    rates = {"real, held out": judge.accuracy(*classifier.reconstructions(loaded, held_out, piece))}
    rates |= {f"sampled, {name}": judge.accuracy(images.pixels, labels) for name, (images, labels) in made.items()}
    chance = {"top_1": 1 / len(judge.classes), "top_3": min(1.0, classifier.TOP / len(judge.classes))}
    if running.as_json:
        console.emit_json(
            {
                "model": loaded.info.name,
                "prior": prior,
                "sampling": asdict(sampling),
                "seed": seed,
                "classifier": {"pictures": judge.pictures, "passes": round(judge.passes, 1), "weights": judge.weights},
                "chance": chance,
                "rates": {name: asdict(rate) for name, rate in rates.items()},
            }
        )
        return
    _table(rates, chance)
    console.say(
        f"classifier: {judge.weights / 1e6:.2f} M weights, {len(judge.classes)} classes, {judge.passes:.1f} passes "
        f"over {judge.pictures:,} real images of {piece.crop} x {piece.crop} as {loaded.info.name} gives them back"
    )


def _table(rates: Mapping[str, Any], chance: Mapping[str, float]) -> None:
    from vqcli.evaluation.image import classifier

    rows = [(name, f"{rate.pictures:,}", f"{rate.top_1:.1%}", f"{rate.top_3:.1%}") for name, rate in rates.items()]
    rows.append(("chance", "–", f"{chance['top_1']:.1%}", f"{chance['top_3']:.1%}"))
    console.emit_table(("images", "number", "named first", f"among the first {classifier.TOP}"), rows)


def _write(made: Samples, count: int, output: Path, force: bool) -> None:
    """Rows of `count` images, with the names of their classes."""
    from vqcli.media import drawing, image

    rows = [list(made.pixels[first : first + count]) for first in range(0, len(made.pixels), count)]
    names = [name or "" for name in made.labels[::count]]
    image.write(output, drawing.grid(rows, names if any(names) else None), force=force)
    console.say(f"{console.plural(len(made.pixels), 'image')} -> {output}")
