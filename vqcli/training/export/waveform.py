"""Export of a finetuned codec of waveforms: a model as imported ones are, with a card that names its source.

Weights are float32 and weight norm is not folded, so that a run can start from them again.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vqcli.data.clips import Waveforms
from vqcli.evaluation.speech import coding
from vqcli.files import replacing
from vqcli.training.export import card, card_speech
from vqcli.training.export.finished import FinishedRun
from vqcli.zoo import importing, loading, store

MEASURED = 12  # held-out clips


def export(finished: FinishedRun[Waveforms], net: nn.Module) -> store.ModelInfo:
    """Write the model file with measurements on held-out clips, and the card."""
    folder, description = finished.folder, {"format": store.FORMAT, **finished.description}
    source = (description.get("start") or {}).get(store.SOURCE)
    if source is not None:
        description[store.SOURCE] = source
    importing.write_weights(folder, net.state_dict(), description, force=True)
    info = store.describe(folder)
    if finished.held_out is not None:
        measured = measure(loading.load(info, "cpu"), finished.held_out, finished)
        importing.write_weights(folder, net.state_dict(), description | {"measured": measured}, force=True)
        info = store.describe(folder)
    with replacing(folder / card.CARD, force=True) as stream:
        stream.write("\n".join(lines_of(info, net)).encode())
    return info


def measure(model: loading.LoadedModel, held_out: Waveforms, finished: FinishedRun[Waveforms]) -> dict[str, Any]:
    """Means over held-out clips for some numbers of levels, as `vq eval` has them."""
    paths = [path for index, path in enumerate(held_out.paths) if held_out.clip(index)][:MEASURED]
    points: list[coding.Point] = []
    for read, path in enumerate(finished.budget.limit(paths), 1):
        points += coding.evaluate(model, [path], codecs=())
        on = f"{read} held-out clips"
    rows = [point for point in coding.means(points) if point.codec != coding.SOURCE]
    names = ("levels", "kbit_per_s", "log_mel_correlation", "log_mel_distance_db")
    return {"on": on, "points": [{name: getattr(row, name) for name in names} for row in rows]}


def lines_of(info: store.ModelInfo, net: nn.Module) -> list[str]:
    """The card."""
    facts, recipe = info.description, info.description["recipe"]
    lines = [f"# {info.name}", "", f"{recipe['description']}.", ""]
    source, start = facts.get(store.SOURCE), facts.get("start")
    if source and start:
        lines += [*importing.origin(source), f"- Finetuned from {start['model']} ({start['digest'] or 'a run'})."]
    lines += [
        f"- Family `{facts['family']}`; digest `{info.digest.hex()}`.",
        f"- {importing.geometry(net)}",
        "",
        "## Trained",
        "",
        f"{facts['steps']:,} steps of {recipe['data']['batch'] * facts['processes']} crops of "
        f"{recipe['data']['seconds']:g} s, from {facts['clips']:,} clips, in "
        f"{facts['trained_seconds'] / 60:.1f} minutes on {facts['machine']}, {card.precision_and_start(facts)}.",
        f"The recipe is in [recipe.toml](recipe.toml), the log in log.jsonl (`vq report {facts['name']}`).",
        "",
    ]
    return lines + card_speech.measured_lines(facts.get("measured"))
