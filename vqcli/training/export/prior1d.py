"""Export of a prior over sequences of codes: bits per second by each coder, and the card."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.codec.codes import books
from vqcli.entropy import coders
from vqcli.entropy.coders import QUICK
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.files import replacing
from vqcli.training.export import card
from vqcli.training.export.card import CARD, precision_and_start
from vqcli.zoo.loading import LoadedModel


def bits_per_second(
    codec: LoadedModel, clips: list[np.ndarray], rate_hz: float, net: SequenceNet
) -> list[dict[str, float]]:
    """Bits per second of each residual level of clips, codes [n_codebooks, T], by each coder."""
    sizes, counts = books(codec)
    seconds = sum(codes.shape[1] for codes in clips) / rate_hz
    levels_bits = []
    for level, end in enumerate(accumulate(counts)):
        groups = slice(end - counts[level], end)
        tables = codec.statistics and codec.statistics.of_groups(groups.start, groups.stop)
        given = coders.Given(sizes[groups], tables, net)
        sizes_bytes = dict.fromkeys(coders.candidates(coders.AUTO, given), 0)
        for codes in clips:
            context = replace(given, below=codes[: groups.start] if level else None)
            for name in sizes_bytes:
                sizes_bytes[name] += len(coders.encode(name, codes[groups], context))
        levels_bits.append({name: round(8 * size / seconds, 1) for name, size in sizes_bytes.items()})
    return levels_bits


def saving(levels: list[dict[str, float]]) -> str:
    """What the entropy model takes for all levels of `bits_per_second`, and what it saves, in words."""
    prior, adaptive = (sum(level[name] for level in levels) for name in ("prior", QUICK))
    return (
        f"Together {prior / 1000:.3g} kbit/s, and {adaptive / 1000:.3g} by `{QUICK}`: {1 - prior / adaptive:.1%} saved"
    )


def write_card(folder: Path, codec: dict[str, Any], description: dict[str, Any]) -> None:
    """README.md of the folder of a prior, from the descriptions of its codec and of itself."""
    recipe, measured = description["recipe"], description["measured"]
    lines = [f"# {folder.name}", "", f"{recipe['description']}.", "", *card.of_others(codec)]
    lines += [
        f"{description['steps']:,} steps of {recipe['data']['batch']} crops of {recipe['data']['seconds']:g} s, from "
        f"{description['clips']:,} clips, in {description['trained_seconds'] / 60:.1f} minutes on "
        f"{description['machine']}, {precision_and_start(description)}.",
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
        lines += ["", f"{saving(levels)}.", ""]
    with replacing(folder / CARD, force=True) as stream:
        stream.write("\n".join(lines).encode())
