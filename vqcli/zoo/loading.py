"""Trained models in memory: a net with the statistics of its codes, read from a model file or written to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.deprecation import renamed
from vqcli.errors import ModelError, VqError, of_memory
from vqcli.files import make_folder, replacing
from vqcli.progress import step
from vqcli.zoo.store import FILE, FORMAT, STATISTICS, ModelInfo, describe, find

if TYPE_CHECKING:
    import torch

    from vqcli.entropy.coders import EntropyNet
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
    def entropy_model(self) -> tuple[EntropyNet, bytes] | None:
        """The net that the coder `prior` uses, from beside the model, with its digest; None without one that fits.

        One that covers all groups of codes at once does not fit residual levels, which are coded one by one. Raises
        ModelError if the file is broken.
        """
        from vqcli.zoo import priors

        info = priors.find(self.info, "exact")
        if info is None:
            return None
        net = priors.load_entropy_model(info, self.net.codebook_sizes)
        return (net, info.digest) if net.covers_levels or self.net.levels == 1 else None

    exact = renamed("exact", "entropy_model")


def load(model: str | ModelInfo, device: str = "auto") -> LoadedModel:
    """Load a model by name, folder or description, as float32 and ready to run."""
    info = find(model) if isinstance(model, str) else model
    with step(f"loading model {info.name}"):
        return _load(info, device)


def _load(info: ModelInfo, device: str) -> LoadedModel:
    from vqcli.entropy.statistics import Statistics
    from vqcli.nets.codecs import base
    from vqcli.zoo import weights
    from vqcli.zoo.filling import filled

    place = pick_device(device)
    try:
        arrays = weights.read(info.path)
        tables = {
            name.removeprefix(STATISTICS): arrays.pop(name) for name in list(arrays) if name.startswith(STATISTICS)
        }
        net = filled(info.description["family"], info.description["arguments"], weights.unpacked(arrays))
        base.check(net, info.modality)
        statistics = Statistics(**tables) if tables else None
        if statistics is not None:
            statistics.check(net.codebook_sizes)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        if of_memory(error):  # that of the machine: no net is larger than its file
            raise
        raise ModelError(f"{info.path} does not hold the weights of its family: {error}") from None
    _fold(net)
    return LoadedModel(info, net.eval().requires_grad_(False).to(place), statistics, place)


def _fold(net: torch.nn.Module) -> None:
    """Compute normalised weights once: they change in training only."""
    from torch.nn.utils import parametrize

    for module in net.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)


def save(
    folder: Path, net: torch.nn.Module, statistics: Statistics | None, description: Mapping[str, Any]
) -> ModelInfo:
    """Write the model file of `folder`: weights (weights.py), statistics as integers, the description in the header.

    `description` holds at least family, arguments and modality; its recipe says which weights take 8 bits.
    """
    from vqcli.zoo import weights

    eight_bits = description.get("recipe", {}).get("model", {}).get("eight_bits", ())
    arrays = weights.packed(net.state_dict(), eight_bits)
    for name, table in (statistics.arrays() if statistics else {}).items():
        arrays[STATISTICS + name] = table
    make_folder(folder)
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
