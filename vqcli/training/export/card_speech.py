"""The card of a speech model, README.md of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqcli.data.clips import WELL_KNOWN_S
from vqcli.files import replacing
from vqcli.training.export.card import CARD, precision_and_start

IMAGE = "spectrograms.webp"


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write README.md of a model folder from its description."""
    recipe, minutes = facts["recipe"], facts["trained_seconds"] / 60
    lines = [f"# {folder.name}", "", recipe["description"] + ".", ""]
    if (folder / IMAGE).exists():
        lines += [f"![Spectrograms of a held-out clip and of its reconstructions]({IMAGE})", ""]
    lines += [
        "## Trained",
        "",
        f"{facts['steps']:,} steps of {recipe['data']['batch'] * facts['processes']} crops of "
        f"{recipe['data']['seconds']:g} s, from {facts['clips']:,} clips of {len(facts['speakers'])} speakers, in "
        f"{minutes:.1f} minutes on {facts['machine']}, {precision_and_start(facts)}.",
        f"The recipe is in [recipe.toml](recipe.toml), the log in log.jsonl (`vq report {facts['name']}`).",
        "",
    ]
    lines += measured_lines(facts.get("measured"))
    well_known = [each for each in facts["speakers"] if each["seconds"] >= WELL_KNOWN_S]
    if well_known:
        lines += [
            "## Speakers with a minute of speech or more",
            "",
            "| speaker | minutes | mean pitch Hz |",
            "|---|---|---|",
        ]
        order = sorted(well_known, key=lambda each: -each["seconds"])
        lines += [f"| {each['name']} | {each['seconds'] / 60:.1f} | {each['pitch_hz']:.0f} |" for each in order]
        lines += [""]
    with replacing(folder / CARD, force=True) as stream:
        stream.write("\n".join(lines).encode())


def measured_lines(measured: dict[str, Any] | None) -> list[str]:
    """The figures of a card, by the number of levels."""
    if not measured:
        return []
    rows = [
        f"| {point['levels']} | {point['kbit_per_s']:.3f} | {point['log_mel_correlation']:.3f} "
        f"| {point['log_mel_distance_db']:.2f} |"
        for point in measured["points"]
    ]
    return [
        "## Measured",
        "",
        f"Means over {measured['on']}, rates of whole files.",
        "",
        "| levels | kbit/s | log-mel correlation | log-mel distance dB |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
