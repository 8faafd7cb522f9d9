"""vq sample"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import ui
from vqcli.cli.options import AsJson, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.generate import Samples
    from vqcli.zoo import LoadedModel


def sample(
    output: Output = None,
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model with a prior.", show_default="the one that has one")
    ] = None,
    prior: Annotated[str, typer.Option(help="pixelcnn, or uniform: every code alike.")] = "pixelcnn",
    labels: Annotated[
        list[str] | None, typer.Option("--class", help="A class by name; several make rows.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("-n", help="How many, of each class.", min=1)] = 4,
    size: Annotated[
        str | None, typer.Option(help="Height x width in pixels: 64x96.", show_default="as the prior was trained")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Below 1: safer and duller; 0: the most probable.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k most probable codes only.", show_default="all")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the codes that hold this share of probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: more of what sets the class apart.")] = 1.0,
    start: Annotated[
        Path | None, typer.Option("--from", help="A picture to complete instead.", show_default=False)
    ] = None,
    keep: Annotated[str, typer.Option(help="What of it to keep: top, left or box (the middle).")] = "top",
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal pictures.", show_default="random")] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw new pictures from the learned prior of a model, by class if it knows classes.

    \b
    vq sample
    vq sample --class fox --class zebra -n 8 -o animals.png
    vq sample --prior pixelcnn --class kit_fox --seed 7 --guidance 2
    vq sample --size 64x128 -n 3 -o samples/
    vq sample --class wolf -o wolf.vqz
    vq sample --from photo.png --keep left -n 6 -o completed.png
    """
    import secrets

    from vqcli import generate, priors, zoo
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.nets.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p, guidance)
    chosen = seed if seed is not None else secrets.randbelow(10**6)
    if chosen < 0:
        raise UsageError(f"seed {chosen} is below 0")
    target = output or Path("sample.png")
    if target.suffix and target.suffix != ".vqz":
        refuse_existing(target, force)  # before the work, not after it
    loaded = zoo.load(model if model is not None else generate.find_model(), device)
    if (known := priors.find(loaded.info, "pixelcnn")) and prior == "pixelcnn":
        for name in labels or []:
            known.label_of(name)
            if name in known.remarks:
                ui.say(f"{name}: {known.remarks[name]}")
    with ui.progress(f"drawing with {loaded.info.name}") as report:
        drawn = generate.sample(
            loaded,
            prior=prior,
            labels=labels or (),
            count=count,
            size=_size(size),
            seed=chosen,
            sampling=sampling,
            start=image.read(start).pixels if start else None,
            keep=keep,
            report=report,
        )
    written = _write(drawn, loaded, target, len(labels or []) or 1, prior, force)
    of = f" of {', '.join(labels)}" if labels else ""
    ui.say(f"{ui.plural(len(drawn.labels), 'picture')}{of} -> {target} (model {loaded.info.name}, seed {chosen})")
    if as_json:
        facts = zip(written, drawn.labels, strict=True)
        ui.emit_json([{"file": str(path), "class": label, "seed": chosen} for path, label in facts])


def _size(text: str | None) -> tuple[int, int] | None:
    from vqcli.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise UsageError(f"--size {text} is no size", "height x width in pixels, as in 64x96")
    return int(match[1]), int(match[2])


def _write(drawn: Samples, model: LoadedModel, target: Path, rows: int, prior: str, force: bool) -> list[Path]:
    """A folder gets single pictures, .vqz single code files, anything else one picture of all; the file of each."""
    from vqcli import packing, vqz
    from vqcli.files import refuse_existing
    from vqcli.media import drawing, image

    total = len(drawn.labels)
    if target.suffix not in ("", ".vqz"):
        each = total // rows
        lines = [list(drawn.pixels[row * each : (row + 1) * each]) for row in range(rows)]
        names = [str(drawn.labels[row * each]) for row in range(rows)] if rows > 1 else None
        picture = drawn.pixels[0] if total == 1 else drawing.grid(lines, names)
        image.write(target, picture, force=force)
        return [target] * total
    if not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        paths = [
            target / f"{index + 1:03}{f'-{label}' if label else ''}.png" for index, label in enumerate(drawn.labels)
        ]
    elif total == 1:
        paths = [target]
    else:
        paths = [target.with_name(f"{target.stem}-{index + 1:03}.vqz") for index in range(total)]
    for path in paths:
        refuse_existing(path, force)
    for index, (path, label) in enumerate(zip(paths, drawn.labels, strict=True)):
        if path.suffix == ".vqz":
            facts: dict[str, Any] = {"drawn_from": prior, "seed": str(drawn.seed), "sample": str(index)}
            metadata = {**facts, **({"class": label} if label else {})}
            vqz.write(path, *packing.pack_image(model, drawn.image(index), metadata=metadata), force=force)
        else:
            image.write(path, drawn.pixels[index], force=force)
    return paths
