"""vq eval samples"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import DRAWS, RUNNING, Count, Draws, Minutes, Model, Running, Seed, command

if TYPE_CHECKING:
    import numpy as np

    from vqcli.data.dataset import Dataset
    from vqcli.evaluation.image.choosing import Measured
    from vqcli.evaluation.image.classifier import Classifier
    from vqcli.evaluation.image.nearest import Nearest
    from vqcli.recipe import Data as Crops
    from vqcli.sampling.image import Samples
    from vqcli.zoo.loading import LoadedModel

Data = Annotated[
    Path,
    typer.Argument(help="Real images, a subfolder for each class; or a .tar, .npz or pack.", show_default=False),
]
COUNT = 20  # of each class
BESIDE = 2  # real images at the end of each row


@dataclass(frozen=True)
class Pictures:
    """What is sampled, and drawn of it."""

    labels: Annotated[
        list[str] | None, typer.Option("--class", help="A class by name; several.", show_default="all of the prior")
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The sampled images, a row for each class, real ones beside.", show_default=False
        ),
    ] = None
    nearest: Annotated[
        Path | None,
        typer.Option(
            help="Nine samples, each beside its nearest training images by pixels and by codes.", show_default=False
        ),
    ] = None


@dataclass(frozen=True)
class Choosing:
    """Which temperature and guidance are best."""

    choose: Annotated[
        bool, typer.Option("--choose", help="Measure guidance 1 to 4 at temperatures 1 and 0.9, and name the best.")
    ] = False
    store: Annotated[
        bool, typer.Option("--store", help="Write the best into the prior's file, as what `vq sample` uses.")
    ] = False


@command
def samples(
    data: Data,
    model: Model = None,
    prior: Annotated[str, typer.Option(help="pixelcnn, or uniform alone: every code alike.")] = "pixelcnn",
    count: Count = None,
    draws: Draws = DRAWS,
    minutes: Minutes = 3.0,
    seed: Seed = 0,
    pictures: Pictures = Pictures(),
    choosing: Choosing = Choosing(),
    running: Running = RUNNING,
) -> None:
    """How often a small classifier names the class that a sampled image should show.

    It learns from the real images after they went through the model, so that it judges what an image shows, not
    the model's texture. Beside the rate on sampled images stand those on real held-out ones and on random codes.

    \b
    vq eval samples animals/ --model tokens
    vq eval samples animals/ --model tokens --guidance 2 -n 50 --json
    vq eval samples animals/ -n 8 --class fox --class zebra -o sampled.png --nearest nearest.png
    vq eval samples animals/ --model ./mine --choose --store
    """
    from vqcli.data.dataset import Dataset
    from vqcli.evaluation.image import classifier, rate_distortion
    from vqcli.sampling.image import data_of, find_model
    from vqcli.zoo import loading, priors

    seed, count = seed or 0, count or COUNT
    _check(prior, draws, pictures, choosing, running.force)
    loaded = loading.load(model if model is not None else find_model(), running.device)
    info = priors.find(loaded.info, "pixelcnn")
    sampling = priors.sampling(info if prior == "pixelcnn" else None, **asdict(draws))
    source = rate_distortion.open_images(data)
    real, held_out = (Dataset(source, held_out=kept) for kept in (False, True))
    task = Task(loaded, real, held_out, data_of(info), tuple(pictures.labels or ()), minutes, seed)
    if choosing.choose:
        _choose(task, count, choosing.store, running.as_json)
        return

    # sampled first: what does not fit together shows before the classifier learns
    made = {}
    for name in dict.fromkeys((prior, "uniform")):
        with console.progress(f"sampling from {loaded.info.name}, {name}") as progress:
            options: Any = {"sampling": sampling, "seed": seed, "progress": progress}
            made[name] = classifier.sample(loaded, name, real.classes, count, labels=task.labels, **options)
    drawn, shown = made[prior], task.real_images()
    if pictures.output:
        _write(drawn, count, shown, pictures.output, running.force)
    near = _nearest(task, drawn, shown[0], pictures.nearest, running.force) if pictures.nearest else {}
    trained = task.classifier()
    rates = {"real, held out": trained.accuracy(*shown)}
    rates |= {f"sampled, {name}": trained.accuracy(images.pixels, labels) for name, (images, labels) in made.items()}
    chance = {"top_1": 1 / len(trained.classes), "top_3": min(1.0, classifier.TOP / len(trained.classes))}
    if running.as_json:
        facts = {"model": loaded.info.name, "prior": prior, "sampling": asdict(sampling), "seed": seed}
        learned = {"pictures": trained.pictures, "passes": round(trained.passes, 1), "weights": trained.weights}
        found = {name: asdict(rate) for name, rate in rates.items()}
        console.emit_json(facts | {"classifier": learned, "chance": chance, "rates": found, **near})
        return
    _table(rates, chance)
    console.say(
        f"guidance {sampling.guidance:g}, temperature {sampling.temperature:g}; "
        f"classifier: {trained.weights / 1e6:.2f} M weights, {len(trained.classes)} classes, {trained.passes:.1f} "
        f"passes over {trained.pictures:,} real images of {task.data.crop} x {task.data.crop} as {loaded.info.name} "
        "gives them back"
    )


@dataclass(frozen=True, eq=False)
class Task:
    """A model, the real images beside it, and how long a classifier of these may learn."""

    model: LoadedModel
    real: Dataset
    held_out: Dataset
    data: Crops
    labels: tuple[str, ...]
    minutes: float
    seed: int

    def classifier(self) -> Classifier:
        from vqcli.evaluation.image import classifier

        with console.progress(f"learning {len(self.real.classes)} classes from {len(self.real):,} images") as progress:
            options: Any = {"minutes": self.minutes, "seed": self.seed, "progress": progress}
            return classifier.train(self.model, self.real, self.data, **options)

    def real_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Held-out images of the classes that are asked for, and their labels."""
        import numpy as np

        from vqcli.evaluation.image import classifier
        from vqcli.zoo import priors

        pixels, labels = classifier.reconstructions(self.model, self.held_out, self.data)
        info = priors.find(self.model.info, "pixelcnn")
        if not (self.labels and info):
            return pixels, labels
        chosen = [self.real.classes.index(info.classes[info.label_of(name)]) for name in self.labels]
        kept = np.isin(labels, chosen)
        return pixels[kept], labels[kept]


def _check(prior: str, draws: Draws, pictures: Pictures, choosing: Choosing, force: bool) -> None:
    """Raise UsageError for what does not fit together, before any work."""
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.zoo import priors

    priors.sampling(None, **asdict(draws))
    for path in filter(None, (pictures.output, pictures.nearest)):
        refuse_existing(path, force)
    if choosing.store and not choosing.choose:
        raise UsageError("--store stores what --choose finds", "--choose --store")
    if choosing.choose and (draws != DRAWS or pictures.output or pictures.nearest or prior != "pixelcnn"):
        raise UsageError(
            "--choose tries its own settings of the learned prior, and draws no image", "leave the others out"
        )


def _choose(task: Task, count: int, store: bool, as_json: bool) -> None:
    """Measure the settings, show them, and store the best if asked."""
    from vqcli.evaluation.image import choosing
    from vqcli.zoo import priors

    with console.progress(f"sampling from {task.model.info.name}") as progress:
        made = choosing.sample(task.model, task.real.classes, count, task.labels, task.seed, progress)
    beside = choosing.real_of(task.model, task.real_images(), task.real, task.data, count)
    found = choosing.measure(made, task.classifier(), beside)
    best, info = choosing.best(found), priors.find(task.model.info, "pixelcnn")
    assert best.sampling and info
    if store:
        priors.set_sampling(info, best.sampling.temperature, best.sampling.guidance)
    if as_json:
        console.emit_json(
            {"model": task.model.info.name, "settings": [_facts(one) for one in found], "best": _facts(best)}
        )
        return
    rows = [
        (
            f"{one.sampling.guidance:g}" if one.sampling else "real images",
            f"{one.sampling.temperature:g}" if one.sampling else "",
            f"{one.accuracy.top_1:.1%}",
            f"{one.accuracy.top_3:.1%}",
            f"{one.variety:.1f}",
            "best" * (one is best),
        )
        for one in found
    ]
    console.emit_table(("guidance", "temperature", "named first", "among three", "grey values apart", ""), rows)
    console.say("best: the most different samples among those named as often as the highest, within a standard error")
    if store:
        console.say(
            f"{info.path} now asks for guidance {best.sampling.guidance:g}, temperature {best.sampling.temperature:g}"
        )


def _facts(one: Measured) -> dict[str, Any]:
    return {
        "sampling": one.sampling and asdict(one.sampling),
        "top_1": one.accuracy.top_1,
        "top_3": one.accuracy.top_3,
        "variety": one.variety,
    }


def _table(rates: Mapping[str, Any], chance: Mapping[str, float]) -> None:
    from vqcli.evaluation.image import classifier

    rows = [(name, f"{rate.pictures:,}", f"{rate.top_1:.1%}", f"{rate.top_3:.1%}") for name, rate in rates.items()]
    rows.append(("chance", "–", f"{chance['top_1']:.1%}", f"{chance['top_3']:.1%}"))
    console.emit_table(("images", "number", "named first", f"among the first {classifier.TOP}"), rows)


def _write(
    made: tuple[Samples, np.ndarray], count: int, real: tuple[np.ndarray, np.ndarray], output: Path, force: bool
) -> None:
    """Rows of `count` images with the names of their classes, and some real ones of each class at the end."""
    from vqcli.media import drawing, image

    samples, labels = made
    rows = [list(samples.pixels[first : first + count]) for first in range(0, len(samples.pixels), count)]
    names = [name or "" for name in samples.labels[::count]]
    if any(names):
        beside = [list(real[0][real[1] == label][:BESIDE]) for label in labels[::count]]
        parts = (drawing.grid(rows, names), drawing.grid(beside)) if all(beside) else (drawing.grid(rows, names),)
        image.write(output, drawing.side_by_side(parts, gap=8), force=force)
    else:
        image.write(output, drawing.grid(rows), force=force)
    console.say(f"{console.plural(len(samples.pixels), 'image')} -> {output}")


def _nearest(
    task: Task, made: tuple[Samples, np.ndarray], real: np.ndarray, output: Path, force: bool
) -> dict[str, Any]:
    """Draw samples beside their nearest training images, and say how near they and held-out images are to these."""
    from vqcli.evaluation.image import nearest
    from vqcli.media import image

    samples, facts = made[0], {}
    codes, decoded = nearest.coded(task.model, real)
    compared = {"sampled": (samples.codes, samples.pixels), "real, held out": (codes, decoded)}
    found: dict[str, Nearest] = {}
    for name, (theirs, pixels) in compared.items():
        with console.progress(f"nearest training images, {name}") as progress:
            found[name] = nearest.nearest(task.model, theirs, pixels, task.real, task.data, progress)
        facts[name] = {
            "grey_values": round(float(found[name].distance.mean()), 2),
            "nearest_grey_values": round(float(found[name].distance.min()), 2),
            "equal_codes": round(float(found[name].equal.mean()), 4),
            "most_equal_codes": round(float(found[name].equal.max()), 4),
        }
        console.say(
            f"{name}: {facts[name]['grey_values']:.1f} grey values from the nearest training image on average, "
            f"{facts[name]['nearest_grey_values']:.1f} at least; {facts[name]['equal_codes']:.1%} of codes equal, "
            f"{facts[name]['most_equal_codes']:.1%} at most"
        )
    image.write(output, nearest.picture(samples.pixels, found["sampled"]), force=force)
    console.say(f"samples, nearest by pixels, nearest by codes -> {output}")
    return {"nearest": facts}
