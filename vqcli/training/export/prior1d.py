"""The end of a run of a prior over codes in time: bits of held-out clips, and the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcli.codec.codes import books
from vqcli.entropy import coders
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.files import replacing
from vqcli.training.budget import Budget
from vqcli.training.datasets.code_clips import CodeClips
from vqcli.training.export.card import CARD, computed
from vqcli.training.tasks.prior import PriorTask
from vqcli.training.validation import Validation

FLOATS_SHARE = 0.3  # of the time that is left; writing the same clips by every coder takes about twice as long


@torch.no_grad()
def measure(
    task: PriorTask,
    clips: CodeClips,
    held_out: CodeClips,
    validation: Validation,
    net: SequenceNet | None,
    budget: Budget,
) -> dict[str, Any]:
    """Bits for a held-out code under the prior, under the frequencies of codes alone, and under none.

    Of a prior in integers they are those of the bytes it writes for whole clips, beside those of the floats it was made
    from; and bits a second, level by level, beside other coders.
    """
    sizes, _ = books(task.codec)
    told = list(held_out.sequences.values())
    order_0 = []
    for group, K in enumerate(sizes):
        count = np.full(K, 0.5)
        for codes in clips.sequences.values():
            count += np.bincount(codes[group], minlength=K)
        bits = -np.log2(count / count.sum())
        order_0.append(np.concatenate([bits[codes[group]] for codes in told]).mean())
    found: dict[str, Any] = {}
    if net is None:
        found["bits_per_code"] = round(validation.measure(task)["bits_per_code"], 4)
    else:
        device = next(task.prior.parameters()).device
        floats, coded = 0.0, []
        for codes in budget.part(FLOATS_SHARE).limit(told):
            coded.append(codes)
            floats += float(task.prior.loss(torch.from_numpy(codes.astype(np.int64))[None].to(device))) * codes.size
        told = coded
        positions = sum(codes.shape[1] for codes in told)
        levels = bits_per_second(task, told, held_out.rate_hz, net)
        total = sum(level["prior"] for level in levels) * positions / held_out.rate_hz
        found |= {
            "bits_per_code": round(total / (positions * len(sizes)), 4),
            "float_bits_per_code": round(floats / (positions * len(sizes)), 4),
            "bits_per_second": levels,
        }
    return found | {
        "on": f"{len(told)} held-out clips",
        "order_0": round(float(np.mean(order_0)), 4),
        "uniform": round(float(np.mean(np.log2(sizes))), 4),
    }


def bits_per_second(
    task: PriorTask, told: list[np.ndarray], rate_hz: float, net: SequenceNet
) -> list[dict[str, float]]:
    """What each level of clips takes by each coder."""
    codec = task.codec
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
