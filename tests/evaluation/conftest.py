"""A recording of a walk along a wall, and tiny models of its frames with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqcli.data import recordings
from vqcli.data.recordings import Facts
from vqcli.zoo import loading, priors, registry, weights

SIDE, STEP, CONTEXT = 24, 5, 2
ACTIONS = ("left", "right")
DATA = {"data": {"crop": SIDE, "batch": 8, "flip": False}}


def walk(seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """What is seen while walking to and fro: always the same wall."""
    wall = np.random.default_rng(0).integers(0, 256, (SIDE // 4, 200, 3), dtype=np.uint8).repeat(4, 0).repeat(2, 1)
    draw, at = np.random.default_rng(seed), 150
    while True:
        action = ACTIONS[int(draw.random() < (0.8 if at < 150 else 0.2))]
        yield wall[:, at : at + SIDE], action
        at += STEP if action == "right" else -STEP


def record(folder: Path, frames: int = 160, game: str = "walk") -> Path:
    """A recording of 8 episodes, the second held out."""
    recordings.record(walk, folder, Facts(game, 0, frames // 8), frames)
    return folder


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return record(tmp_path / "walk-recorded")


@pytest.fixture
def model_with(tmp_path: Path, make_model: Callable[..., loading.LoadedModel]) -> Callable[..., loading.LoadedModel]:
    """model_with("pixelcnn", "frames"): a codec of stride 4, K = 8, with these priors beside it."""

    def make(*families: str, actions: tuple[str, ...] = ACTIONS) -> loading.LoadedModel:
        return with_priors(make_model("walked", tmp_path / "models", **codec_arguments()), families, actions)

    return make


def codec_arguments() -> dict[str, Any]:
    return {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}


def with_priors(
    model: loading.LoadedModel, families: tuple[str, ...], actions: tuple[str, ...] = ACTIONS
) -> loading.LoadedModel:
    small = {"width": 8, "layers": 2, "hidden": 8}
    arguments: dict[str, dict[str, Any]] = {
        "pixelcnn": {"codebook_sizes": [8], **small},
        "frames": {
            "codebook_sizes": [8], "context": CONTEXT, "actions": len(actions), "embedded": 4, "width": 8, "blocks": 1,
            "condition": 8, "decoder": small,
        },
    }  # fmt: skip
    for family in families:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = registry.build(family, arguments[family])
        told = {"family": family, "arguments": arguments[family], "codec": model.info.digest.hex(), "recipe": DATA}
        told["classes"] = list(actions) if family == "frames" else []
        priors.save(model.info.folder, weights.packed(net.state_dict()), told)
    return model


def two_stages(folder: Path, side: int = SIDE) -> loading.LoadedModel:
    """A model of two latents of K = 4 over the codes of such a codec."""
    small = {"width": 8, "layers": 2, "hidden": 8}
    arguments = {
        "first": codec_arguments(), "side": side, "latents": 2, "K": 4, "dim": 4, "widths": [8, 8, 8], "condition": 8,
        "decoder": small,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("twostage2d", arguments)
        net.first.train()(torch.rand(8, 3, side, side) - 0.5)
        net.quantizer(net.train().latents(torch.rand(8, 3, side, side) - 0.5))
    described = {"family": "twostage2d", "arguments": arguments, "modality": "image"}
    return loading.load(loading.save(folder / "stages", net, None, described), "cpu")
