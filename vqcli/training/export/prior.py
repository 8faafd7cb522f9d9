"""Export of a prior: its file next to a copy of its codec."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqcli.training.export.finished import FinishedRun
from vqcli.zoo import priors, store


def write(
    finished: FinishedRun[Any],
    codec: store.ModelInfo,
    arguments: dict[str, Any],
    facts: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> tuple[store.ModelInfo, dict[str, Any]]:
    """Write the prior next to a copy of its codec, which makes the folder a complete model: that model, and the
    description of the prior with its measurements as stored in the file."""
    folder, sampling = finished.folder, finished.description["recipe"].get("sampling")
    if folder.resolve() != codec.folder.resolve():
        shutil.copyfile(codec.path, folder / store.FILE)
    description = finished.description | {
        "arguments": arguments,
        "codec": codec.digest.hex(),
        "recipe": finished.description["recipe"] | {"codec": codec.name},  # the name, not the path
        **facts,
        **({"sampling": sampling} if sampling else {}),
    }
    priors.save(folder, arrays, description)
    written = priors.describe(priors.path_of(folder, description["family"])).description
    return store.describe(folder), description | {"measured": written["measured"]}
