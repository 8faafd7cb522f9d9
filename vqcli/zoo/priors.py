"""Priors: distributions over the codes of one model, each in a file beside it that names the model's digest.

    pixelcnn.safetensors   a Gated PixelCNN over images, for sampling
    frames.safetensors     a PixelCNN over the next frame of a video, given those before and actions, for sampling
    wavenet.safetensors    a WaveNet over codes in time, for sampling
    exact.safetensors      a light net in integers, for entropy coding; of images (exact) or of time (exact1d)

As with models, the header carries a JSON description that is read without torch: family, arguments of the net, the
codec it belongs to, and for a conditional prior the names of its classes in their order, with aliases. The classes of
speech are its speakers, those of video its actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from vqcli.errors import ModelError, UnknownLabel, near_matches
from vqcli.files import make_folder, replacing
from vqcli.recipe import Sampling as Defaults
from vqcli.zoo import registry, store
from vqcli.zoo.store import ModelInfo

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vqcli.entropy.coders import EntropyNet
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.nets.priors.frames import FramePrior
    from vqcli.nets.priors.pixelcnn import PixelCNN
    from vqcli.nets.priors.wavenet import WaveNetPrior

FORMAT = 1
FAMILIES = ("pixelcnn", "frames", "wavenet", "exact")  # as their files are called


class Fields(msgspec.Struct):
    """Types of the keys of a prior's description that are read anywhere; there may be others."""

    family: str
    arguments: dict[str, Any]
    codec: str
    classes: list[str] = []
    aliases: dict[str, str] = {}
    remarks: dict[str, str] = {}
    steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    recipe: store.RecipeFields | None = None
    measured: dict[str, Any] | None = None
    sampling: Defaults | None = None


@dataclass(frozen=True)
class PriorInfo:
    """What a prior says about itself, read without its weights."""

    path: Path
    description: dict[str, Any]

    @property
    def family(self) -> str:
        return self.description["family"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels in their order, () if it is conditional on nothing."""
        return tuple(self.description.get("classes", ()))

    @property
    def aliases(self) -> dict[str, str]:
        """Other names for some of the classes."""
        return self.description.get("aliases", {})

    @property
    def remarks(self) -> dict[str, str]:
        """What a person should know who asks for a class by such a name."""
        return self.description.get("remarks", {})

    @property
    def defaults(self) -> dict[str, float]:
        """The temperature that the file asks for, and of images, each of which has a class, the guidance."""
        asked = dict(self.description.get("sampling") or {})
        by_class = self.family == "pixelcnn" and self.classes and self.description["arguments"].get("unlabelled")
        if not by_class:
            asked.pop("guidance", None)
        return asked

    @cached_property
    def digest(self) -> bytes:
        """First 8 bytes of the SHA-256 of the file."""
        return store.digest_of(self.path)

    def number_of(self, name: str) -> int:
        """The number of a class or alias, -1 for a name that is neither."""
        known = self.aliases.get(name, name)
        return self.classes.index(known) if known in self.classes else -1

    def label_of(self, name: str) -> int:
        """The number of a class or alias. Raises UnknownLabel with near matches."""
        number = self.number_of(name)
        if number < 0:
            raise UnknownLabel(f"this prior knows no {name}", near_matches(name, [*self.classes, *self.aliases]))
        return number


def sampling(info: PriorInfo | None, **given: float | None) -> Sampling:
    """How codes are sampled: fields of Sampling that are given and not None, the prior's own defaults for the rest."""
    from vqcli.nets.priors.autoregressive import Sampling

    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Sampling(**({} if info is None else info.defaults) | asked)


def path_of(folder: Path, family: str) -> Path:
    """Where a prior lies; a model has one of a kind for entropy coding, whatever its family."""
    return folder / f"{family.removesuffix('1d')}.safetensors"


def find(model: ModelInfo, family: str) -> PriorInfo | None:
    """The prior of that family beside a model, None if there is none. Raises ModelError if it is another model's."""
    path = path_of(model.folder, family)
    if not path.is_file():
        return None
    info = describe(path)
    wanted, found = model.digest.hex(), info.description["codec"]
    if wanted != found:
        raise ModelError(
            f"{path} belongs to another version of {model.name} ({found}, not {wanted})",
            "put back the model it was trained on, or train the prior again",
        )
    return info


def beside(model: ModelInfo) -> list[PriorInfo]:
    """All priors beside a model. Raises ModelError as `find` does."""
    found = (find(model, family) for family in FAMILIES)
    return [info for info in found if info is not None]


def model_with(family: str, remedy: str, preferred: str | None = None) -> ModelInfo:
    """The model to sample from when none is named: the preferred one, else the first with a prior of that family.

    Raises ModelError with the remedy if none on the search path has such a prior.
    """
    known = [info for info in store.list_models() if path_of(info.folder, family).is_file()]
    if not known:
        raise ModelError(f"no model has a prior of the family {family}", remedy)
    return next((info for info in known if info.name == preferred), known[0])


def describe(path: Path) -> PriorInfo:
    """Read the header of a prior. Raises ModelError if it is not one."""
    try:
        description = store.read_description(path)
        if description["format"] != FORMAT:
            raise ValueError(f"it has format {description['format']}, this vq reads {FORMAT}")
        msgspec.convert(description, Fields)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a prior of vq: {error}") from None
    return PriorInfo(path, description)


def save(folder: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> PriorInfo:
    """Write a prior beside its model. `description` holds at least family, arguments and codec (the hex digest)."""
    from vqcli.zoo import weights

    path = path_of(folder, description["family"])
    make_folder(folder)
    with replacing(path, force=True) as stream:
        stream.write(weights.to_bytes(arrays, {"format": FORMAT, **description}))
    return describe(path)


def set_sampling(info: PriorInfo, temperature: float, guidance: float) -> PriorInfo:
    """Rewrite the file of a prior with other defaults for sampling; its weights stay byte for byte."""
    from vqcli.zoo import weights

    description = info.description | {"sampling": {"temperature": temperature, "guidance": guidance}}
    with replacing(info.path, force=True) as stream:
        stream.write(weights.described(info.path.read_bytes(), description))
    return describe(info.path)


def load_pixelcnn(info: PriorInfo, device: torch.device) -> PixelCNN:
    """The net of a prior over images, float32 and ready to run. Raises ModelError if the file does not hold it."""
    net: PixelCNN = _load(info, device)
    return net


def load_frames(info: PriorInfo, device: torch.device) -> FramePrior:
    """The net of a prior over video, as `load_pixelcnn` does."""
    net: FramePrior = _load(info, device)
    return net


def load_wavenet(info: PriorInfo, device: torch.device) -> WaveNetPrior:
    """The net of a prior over codes in time, as `load_pixelcnn` does."""
    net: WaveNetPrior = _load(info, device)
    return net


def _load(info: PriorInfo, device: torch.device) -> Any:
    from vqcli.zoo import weights
    from vqcli.zoo.filling import filled

    try:
        net = filled(info.family, info.description["arguments"], weights.unpacked(weights.read(info.path)))
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{info.path} does not hold the weights of its family: {error}") from None
    return net.eval().requires_grad_(False).to(device)


def load_entropy_model(info: PriorInfo, codebook_sizes: Sequence[int]) -> EntropyNet:
    """The integer net of a prior for entropy coding. Raises ModelError if the file does not hold one of this model."""
    from vqcli.zoo import weights

    try:
        net: EntropyNet = registry.family_of(info.family).integer_net(weights.read(info.path), codebook_sizes)
    except (AttributeError, ValueError, OSError) as error:
        raise ModelError(f"{info.path} does not hold a sound entropy model: {error}") from None
    return net
