"""Make a model of vq from other people's weights: recognised by a family, checked, written once.

The result is a model folder as any other: weights in float32 as the checkpoint has them, weight norm not folded, and a
card with source, revision, licence and citation. Encoding and decoding never look at the source again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vqcli.container.header import MODEL_NAME
from vqcli.errors import ModelError, UsageError
from vqcli.files import make_folder, replacing
from vqcli.media.audio import RATES_HZ
from vqcli.nets.codecs import base
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported
from vqcli.zoo import checkpoints, hub, registry, store
from vqcli.zoo.filling import filled
from vqcli.zoo.store import ModelInfo


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    place     a repository, or the name of a file or folder
    revision  the commit of the repository, "" without one
    path      the folder or file here
    """

    place: str
    revision: str
    path: Path


def source_of(
    place: str,
    said: Callable[[str], None] = lambda licence: None,
    progress: hub.Fetching = lambda size_bytes, of_bytes: None,
) -> Source:
    """A repository (owner/name, @ and a revision), fetched; or a file or folder here. Raises ModelError.

    `said` is called with the licence of a repository before its weights are fetched, `progress` while they are.
    """
    if hub.names_repository(place):
        path, revision = hub.fetch(place, said, progress)
        return Source(place.partition("@")[0], revision, path)
    path = Path(place)
    return Source(path.resolve().name, "", path)


def import_model(source: Source, name: str | None = None, *, force: bool = False) -> ModelInfo:
    """Write the model `name` into the user's folder of models, from a file or folder of weights.

    Raises ModelError if nothing here knows what it is, or if it does not fit what it says it is; UsageError for a name
    that no model may have or that is taken.
    """
    name = name or default_name(source)
    if (store.user_folder() / name / store.FILE).exists() and not force:
        raise UsageError(f"there is a model {name} in {store.user_folder()}", "-o names this one, --force replaces it")
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"{name} is no name of a model", "small letters, digits, - and _, at most 64: -o NAME")
    path = checkpoints.find(source.path)
    checkpoint = checkpoints.read(path)
    family, found = recognised(checkpoint, source.place)
    net = checked(family, found)
    modality = next(of for of, contract in base.CONTRACTS.items() if contract in type(net).__mro__)
    facts = {
        "place": source.place,
        "revision": source.revision,
        "file": path.name,
        "sha256": _sha256(path),
        "licence": hub.licence_of(path.with_name(hub.CARD)) or hub.UNKNOWN,
        "citation": found.citation,
    }
    folder = store.user_folder() / name
    description = {"family": family, "arguments": found.arguments, "modality": modality, store.SOURCE: facts}
    write_weights(folder, found.tensors, {"format": store.FORMAT, **description}, force)
    info = store.describe(folder)
    with replacing(folder / hub.CARD, force=True) as stream:
        stream.write(_card(info, net, facts).encode())
    return info


def recognised(checkpoint: Checkpoint, place: str) -> tuple[str, Imported]:
    """The family that knows a checkpoint, and what it makes of it."""
    importers = registry.importers()
    for family, from_checkpoint in importers.items():
        found = from_checkpoint(checkpoint)
        if found is not None:
            return family, found
    kind = checkpoint.config.get("model_type") or checkpoint.config.get("_class_name")
    said = f", which calls itself {kind}" if isinstance(kind, str) else ""
    raise ModelError(f"nothing in vq knows the weights of {place}{said}", f"looked for {', '.join(importers)}")


def checked(family: str, found: Imported) -> Any:
    """The net with its weights. Raises ModelError if they do not fit together."""
    try:
        net = filled(family, found.arguments, found.tensors)
    except ValueError as error:
        raise ModelError(f"the weights do not fit a {family}: {error}") from None
    rate_hz = getattr(net, "rate_hz", RATES_HZ[0])
    if type(rate_hz) is not int or rate_hz not in RATES_HZ:
        raise ModelError(f"a sampling rate of {rate_hz!r} Hz is none that vq knows", "its config.json says so")
    for name, tensor in found.tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{name} holds numbers that are not finite")
    return net.eval()


def default_name(source: Source) -> str:
    """The name of a repository, file or folder as models are called: encodec-24khz of facebook/encodec_24khz."""
    last = source.place.rstrip("/").rpartition("/")[2]
    stem = Path(last).stem if source.path.is_file() else last
    return re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip("-.")[:64]


def write_weights(folder: Path, tensors: Mapping[str, Tensor], description: dict[str, Any], force: bool) -> None:
    """The model file of other people's weights: float32, as they are."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(tensor.detach().float().cpu().numpy()) for name, tensor in tensors.items()}
    make_folder(folder)
    with replacing(folder / store.FILE, force=force) as stream:
        stream.write(save(arrays, {"vq": json.dumps(description, sort_keys=True)}))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _card(info: ModelInfo, net: Any, facts: dict[str, str]) -> str:
    weights = sum(parameter.numel() for parameter in net.parameters())
    sources = "\n".join(origin(facts))
    return f"""# {info.name}

{sources}
- Family `{info.description["family"]}`, {weights:,} weights; digest `{info.digest.hex()}`.
- {geometry(net)}
"""


def origin(facts: Mapping[str, str]) -> list[str]:
    """What cards say of where weights come from; `facts` are the source in the description of a model."""
    revision = f", revision {facts['revision']}" * bool(facts["revision"])
    file = f"`{facts['file']}`, SHA-256 `{facts['sha256']}`"
    return [
        facts["citation"],
        "",
        f"- Weights of other people, imported from {facts['place']}{revision}: {file}.",
        f"- Licence: {facts['licence']}.",
    ]


def geometry(net: Any) -> str:
    """Codes of a codec in words: how many, how often, and what they take without entropy coding."""
    bits = sum(float(np.log2(K)) for K in net.codebook_sizes)
    sizes = sorted(set(net.codebook_sizes))
    books = f"{len(net.codebook_sizes)} codebook{'s' * (len(net.codebook_sizes) > 1)} of {' or '.join(map(str, sizes))}"
    if hasattr(net, "rate_hz"):
        rate = net.framing.positions_per_s(net.rate_hz)
        together = f", {net.channels} channels together" * (net.channels > 1)
        return (
            f"{net.rate_hz:,} Hz{together}, {rate:.4g} positions a second, {books}: "
            f"{rate * bits / 1000:.3g} kbit/s before coding"
        )
    return f"{books} for each {net.stride} x {net.stride} pixels: {bits / net.stride**2:.3g} bits/pixel before coding"
