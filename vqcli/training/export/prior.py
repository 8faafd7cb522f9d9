"""The end of a run of a prior: its file beside a copy of its codec."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqcli.training.export.finished import Finished
from vqcli.zoo import priors, store


def write(
    finished: Finished[Any],
    codec: store.ModelInfo,
    arguments: dict[str, Any],
    facts: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> tuple[store.ModelInfo, dict[str, Any]]:
    """Write the prior beside a copy of its codec, so that the folder is a model of its own: that model, and the
    description of the prior with its figures as the file has them."""
    folder = finished.folder
    if folder.resolve() != codec.folder.resolve():
        shutil.copyfile(codec.path, folder / store.FILE)
    description = finished.description | {
        "arguments": arguments,
        "codec": codec.digest.hex(),
        "recipe": finished.description["recipe"] | {"codec": codec.name},  # by name: its folder is nobody's business
        **facts,
    }
    priors.save(folder, arrays, description)
    written = priors.describe(priors.path_of(folder, description["family"])).description
    return store.describe(folder), description | {"measured": written["measured"]}
