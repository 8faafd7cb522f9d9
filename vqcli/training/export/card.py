"""The card of a model, README.md of its folder: how it was trained, and measurements on held-out items."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.data.dataset import Dataset
from vqcli.evaluation import metrics
from vqcli.evaluation.image import likelihood, rate_distortion
from vqcli.evaluation.image.rate_distortion import Point
from vqcli.files import replacing
from vqcli.media import image
from vqcli.training.budget import Budget
from vqcli.training.log import compare
from vqcli.zoo import importing, loading, store

CARD = "README.md"
IMAGE = "pictures.webp"
BOUND_IMAGES = 1000  # held-out images whose likelihood is measured
MEASURED = 12  # held-out images, measured in full size
CODES_SHARE = 0.4  # of the time for measuring, if there is a likelihood too
BASELINES = ("JPEG", "WebP")


def measure(model: loading.LoadedModel, held_out: Dataset, budget: Budget) -> dict[str, Any]:
    """Measurements on held-out images: bits/dim by the likelihood, rate and distortion by the codes.

    On as many images as there is time for.
    """
    measured: dict[str, Any] = {}
    if model.net.codebook_sizes:
        measured = _rate_distortion(
            model, held_out, budget.part(CODES_SHARE if model.net.likelihood is not None else 1.0)
        )
    if model.net.likelihood is not None:
        bounds = likelihood.measure(model, held_out, count=BOUND_IMAGES, limit=budget.limit)
        measured["bounds"] = [
            {"under": bound.under, "bits_per_dim": round(bound.bits_per_dim, 4), "pictures": bound.pictures}
            for bound in bounds
        ]
    return measured


def _rate_distortion(model: loading.LoadedModel, held_out: Dataset, budget: Budget) -> dict[str, Any]:
    """Rate and distortion on held-out images, baselines at equal bytes, and codebook usage."""
    names = held_out.names[:MEASURED]
    counts = metrics.CodeCounts(model.net.codebook_sizes)
    qualities = rate_distortion.spread(model, 3)
    points: list[Point] = []
    read = 0
    for index in budget.limit(range(len(names))):
        read_one = partial(lambda _, index: held_out.pixels(index), index=index)
        one = rate_distortion.evaluate(
            model, [names[index]], read_one, qualities, codecs=BASELINES, on_codes=counts.add
        )
        points += one
        read += 1
    used, perplexity = np.mean(counts.usages(), axis=0)
    return {
        "on": f"{read} held-out pictures",
        "points": [_as_dict(point) for point in _comparable(rate_distortion.means(points))],
        "codes_used": round(float(used), 4),
        "perplexity": round(float(perplexity), 1),
    }


def write(folder: Path, description: dict[str, Any], shown: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Write README.md of a model folder from its description, and an image of originals and reconstructions."""
    lines = [f"# {folder.name}", "", description["recipe"]["description"] + ".", "", *of_others(description)]
    if shown is not None:
        with replacing(folder / IMAGE, force=True) as stream:
            stream.write(image.encode_bytes(compare(*shown), "webp", quality=95))
        lines += [f"![Held-out images above, their reconstructions below]({IMAGE})", ""]
    lines += ["## Trained", "", _trained(description), ""]
    if measured := description.get("measured"):
        lines += ["## Measured", "", *_measured(measured), ""]
    with replacing(folder / CARD, force=True) as stream:
        stream.write("\n".join(lines).encode())


def of_others(description: dict[str, Any]) -> list[str]:
    """Where other people's weights in the folder come from, and their licence; nothing for own ones."""
    source = description.get(store.SOURCE)
    return [*importing.origin(source), ""] if source else []


def _trained(facts: dict[str, Any]) -> str:
    recipe = facts["recipe"]
    items = recipe["data"]["batch"] * facts["processes"]
    minutes = facts["trained_seconds"] / 60
    chosen = "These weights are the best on held-out images. " if facts.get("measured") else ""
    return (
        f"{facts['steps']:,} steps of {items} crops of {recipe['data']['crop']} pixels, from {facts['pictures']:,} "
        f"images, in {minutes:.1f} minutes on {facts['machine']}, {precision_and_start(facts)}. {chosen}"
        f"The recipe is in [recipe.toml](recipe.toml), the log in log.jsonl (`vq report {facts['name']}`)."
    )


def precision_and_start(facts: dict[str, Any]) -> str:
    """The precision of a run, and the weights it started from."""
    start = facts.get("start")
    digest = f", {start['digest']}" * bool(start["digest"]) if start else ""
    begun = f", from the weights of {start['model']} ({start['steps']:,} steps{digest})" if start else ""
    return f"in {facts['computed_in']}{begun}"


def _measured(measured: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if bounds := measured.get("bounds"):
        rows = [f"| {bound['under']} | {bound['bits_per_dim']:.3f} |" for bound in bounds]
        about = f"Bits/dim of {bounds[0]['pictures']:,} held-out images, a bound (`vq eval likelihood`)."
        lines = [about, "", "| latents under | bits/dim |", "|---|---|", *rows, ""]
    return lines + (_code_lines(measured) if "points" in measured or "bits_per_code" in measured else [])


def _code_lines(measured: dict[str, Any]) -> list[str]:
    if "bits_per_code" in measured:
        rows = [("this prior", measured["bits_per_code"])]
        if "float_bits_per_code" in measured:
            rows.append(("the float net it was rounded from", measured["float_bits_per_code"]))
        # of a prior over video
        ablations = {"without_actions": "it without actions", "other_actions": "it with the actions of other frames"}
        ablations |= {"without_frames": "it without frames before"}
        rows += [(text, measured[name]) for name, text in ablations.items() if name in measured]
        rows += [("code frequencies alone (order 0)", measured["order_0"]), ("uniform prior", measured["uniform"])]
        text = f"Bits for each code, {measured['on']}; under this prior that is {measured['bits_per_dim']} bits/dim."
        return [text, "", "| under | bits/code |", "|---|---|", *(f"| {name} | {bits:.3f} |" for name, bits in rows)]
    figures = [
        (p["quality"] or "–", p["codec"], f"{p['bits_per_pixel']:.4f}", f"{p['psnr_db']:.2f}", p["ms_ssim"] or "–")
        for p in measured["points"]
    ]
    return [
        f"Means over {measured['on']}, rates of whole files; baselines at no more bytes.",
        "",
        "| quality | codec | bits/pixel | PSNR dB | MS-SSIM |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(map(str, row))} |" for row in figures),
        "",
        f"{measured['codes_used']:.1%} of the codes are used, with a perplexity of {measured['perplexity']:.0f}.",
    ]


def _comparable(points: list[Point]) -> list[Point]:
    """Without baselines whose files are larger than the model's, as headers alone can be."""
    own = {point.quality: point.size_bytes for point in points if point.codec == points[0].codec}
    return [point for point in points if point.size_bytes <= own[point.quality]]


def _as_dict(point: Point) -> dict[str, Any]:
    ms_ssim = (
        round(point.ms_ssim, 4) if np.isfinite(point.ms_ssim) else None
    )  # undefined for images smaller than its window
    return {
        "codec": point.codec,
        "quality": point.quality,
        "bits_per_pixel": round(point.bits_per_pixel, 4),
        "psnr_db": round(point.psnr_db, 2),
        "ms_ssim": ms_ssim,
    }
