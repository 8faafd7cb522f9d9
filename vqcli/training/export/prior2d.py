"""What codes of images cost under a prior."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vqcli.data.dataset import Dataset
from vqcli.entropy import prior2d
from vqcli.entropy.prior2d_net import Net
from vqcli.training.budget import Budget
from vqcli.training.export.codec import COUNTING_SHARE, SAMPLES
from vqcli.training.tasks.prior import PriorTask
from vqcli.training.tasks.registry import as_input
from vqcli.training.validation import Validation


@torch.no_grad()
def _bits_per_code(
    task: PriorTask, dataset: Dataset, validation: Validation, net: Net | None, budget: Budget
) -> dict[str, Any]:
    """Bits for a held-out code under the prior, under the frequencies of codes alone, and under none.

    Of a prior in integers they are those of the bytes it writes, with those of the floats it was made from beside them.
    """
    data, sizes = task.recipe.data, task.codec.net.codebook_sizes
    counts = [np.full(K, 0.5) for K in sizes]
    for step in budget.part(COUNTING_SHARE).limit(range(-(-SAMPLES // data.batch))):
        batch = dataset.batch(data, 0, step * data.batch, data.batch)
        codes, _ = task.codes(as_input(batch, validation.device)[0])
        for group, count in enumerate(counts):
            count += np.bincount(codes[:, group].flatten().cpu().numpy(), minlength=len(count))
    held_out, quality = task.codes(as_input(validation.batch, validation.device)[0])
    bits = [
        -np.log2(count / count.sum())[held_out[:, group].cpu().numpy()].mean() for group, count in enumerate(counts)
    ]
    if net is None:
        under = {"bits_per_code": validation.measure(task)["bits_per_code"]}
    else:
        tenths = [0] * len(held_out) if quality is None else quality.mul(10).round().int().tolist()
        floats, written = [], []
        for i in budget.limit(range(len(held_out))):
            floats.append(float(task.prior.loss(held_out[i : i + 1], None if quality is None else quality[i : i + 1])))
            written.append(len(prior2d.encode(held_out[i].cpu().numpy(), tenths[i], net)))
        coded = len(written) * held_out[0].numel()
        under = {"bits_per_code": 8 * sum(written) / coded, "float_bits_per_code": float(np.mean(floats))}
    # a codec with qualities codes each picture at two
    pictures = len(validation.batch) if net is None else -(-len(written) * len(validation.batch) // len(held_out))
    return {
        "on": f"{pictures} held-out pictures",
        **{name: round(bits, 4) for name, bits in under.items()},
        # of the codes alone, spread over the pixels and channels that they stand for
        "bits_per_dim": round(
            under["bits_per_code"] * len(sizes) / (task.codec.net.channels * task.codec.net.stride**2), 4
        ),
        "order_0": round(float(np.mean(bits)), 4),
        "uniform": round(float(np.mean(np.log2(sizes))), 4),
    }
