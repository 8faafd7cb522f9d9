"""The end of a run of a prior over codes in time: bits a second by each coder, and the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.codec.codes import books
from vqcli.entropy import coders
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.files import replacing
from vqcli.training.export.card import CARD, computed
from vqcli.zoo.loading import LoadedModel


def bits_per_second(
    codec: LoadedModel, told: list[np.ndarray], rate_hz: float, net: SequenceNet
) -> list[dict[str, float]]:
    """What each level of clips, codes [groups, T], takes by each coder."""
    sizes, levels = books(codec)
    n = len(sizes) // levels
    seconds = sum(codes.shape[1] for codes in told) / rate_hz
    found = []
    for level in range(levels):
        groups = slice(level * n, (level + 1) * n)
        tables = codec.statistics and codec.statistics.of_groups(groups.start, groups.stop)
        given = coders.Given(sizes[groups], tables, net)
        taken = dict.fromkeys(coders.candidates(coders.AUTO, given), 0)
        for codes in told:
            here = replace(given, below=codes[: groups.start] if level else None)
            for name in taken:
                taken[name] += len(coders.encode(name, codes[groups], here))
        found.append({name: round(8 * size / seconds, 1) for name, size in taken.items()})
    return found


def write_card(folder: Path, description: dict[str, Any]) -> None:
    """README.md of the folder of a prior."""
    recipe, measured = description["recipe"], description["measured"]
    lines = [f"# {folder.name}", "", f"{recipe['description']}.", ""]
    lines += [
        f"{description['steps']:,} steps of {recipe['data']['batch']} crops of {recipe['data']['seconds']:g} s, from "
        f"{description['clips']:,} clips, in {description['trained_seconds'] / 60:.1f} minutes on "
        f"{description['machine']}, {computed(description)}.",
        "",
    ]
    if measured:
        lines += [f"Bits for a code of {measured['on']}:", "", "| under | bits |", "|---|---|"]
        names = {"bits_per_code": "this prior", "order_0": "the frequencies of codes", "uniform": "none"}
        lines += [f"| {text} | {measured[name]:.3f} |" for name, text in names.items()] + [""]
    if levels := measured.get("bits_per_second"):
        lines += ["Bits a second of each level, by coder:", "", "| level | " + " | ".join(levels[0]) + " |"]
        lines += ["|---|" + "---|" * len(levels[0])]
        lines += [
            f"| {n} | " + " | ".join(f"{bits:.0f}" for bits in row.values()) + " |" for n, row in enumerate(levels)
        ]
        lines += [""]
    with replacing(folder / CARD, force=True) as stream:
        stream.write("\n".join(lines).encode())
