"""Trained models in memory: a net with the statistics of its codes, read from a model file or written to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.errors import ModelError, VqError
from vqcli.files import replacing
from vqcli.zoo.registry import build
from vqcli.zoo.store import FILE, FORMAT, STATISTICS, ModelInfo, describe, find

if TYPE_CHECKING:
    import torch

    from vqcli.entropy.prior1d_net import SequenceNet
    from vqcli.entropy.prior2d_net import Net
    from vqcli.entropy.statistics import Statistics
    from vqcli.nets.codecs.base import AudioCodec, ImageCodec


@dataclass(frozen=True)
class LoadedModel:
    """A net ready to run on `device`, the statistics of its codes if it ships any, and its description."""

    info: ModelInfo
    net: Any  # an ImageCodec or AudioCodec, by the modality of the model: checked when it is loaded
    statistics: Statistics | None
    device: torch.device

    @property
    def image(self) -> ImageCodec:
        """The net of a model of images. Raises ModelError for another."""
        return self._of("image")

    @property
    def audio(self) -> AudioCodec:
        """The net of a model of audio. Raises ModelError for another."""
        return self._of("audio")

    def _of(self, modality: str) -> Any:
        if self.info.modality != modality:
            raise ModelError(f"model {self.info.name} is of {self.info.modality}, not of {modality}")
        return self.net

    @cached_property
    def exact(self) -> tuple[Net | SequenceNet, bytes] | None:
        """The prior for entropy coding that lies beside the model, with its digest. Raises ModelError if it is broken.

        That of pictures covers all groups of a chunk at once, so those with several residual levels have none.
        """
        from vqcli.zoo import priors

        if self.info.modality == "image" and self.net.levels > 1:
            return None
        info = priors.find(self.info, "exact")
        return None if info is None else (priors.load_exact(info, self.net.codebook_sizes), info.digest)


def load(model: str | ModelInfo, device: str = "auto") -> LoadedModel:
    """Load a model by name, folder or description, as float32 and ready to run."""
    from vqcli.entropy.statistics import Statistics
    from vqcli.nets.codecs import base
    from vqcli.zoo import weights

    info = find(model) if isinstance(model, str) else model
    place = pick_device(device)
    net = build(info.description["family"], info.description["arguments"])
    base.check(net, info.modality)
    try:
        arrays = weights.read(info.path)
        tables = {
            name.removeprefix(STATISTICS): arrays.pop(name) for name in list(arrays) if name.startswith(STATISTICS)
        }
        net.load_state_dict(weights.unpacked(arrays))
        statistics = Statistics(**tables) if tables else None
        if statistics is not None:
            statistics.check(net.codebook_sizes)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{info.path} does not hold the weights of its family: {error}") from None
    return LoadedModel(info, net.eval().requires_grad_(False).to(place), statistics, place)


def save(
    folder: Path, net: torch.nn.Module, statistics: Statistics | None, description: Mapping[str, Any]
) -> ModelInfo:
    """Write the model file of `folder`: weights (weights.py), statistics as integers, the description in the header.

    `description` holds at least family, arguments and modality; its recipe tells which weights take 8 bits.
    """
    from vqcli.zoo import weights

    eight_bits = description.get("recipe", {}).get("model", {}).get("eight_bits", ())
    arrays = weights.packed(net.state_dict(), eight_bits)
    for name, table in (statistics.arrays() if statistics else {}).items():
        arrays[STATISTICS + name] = table
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE, force=True) as stream:
        stream.write(weights.to_bytes(arrays, {"format": FORMAT, **description}))
    return describe(folder)


def pick_device(name: str) -> torch.device:
    """'auto' is cuda, then mps, then cpu. Raises VqError for a device that is not there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        raise VqError(f"device {name} is not available here", "use --device auto or --device cpu") from None
