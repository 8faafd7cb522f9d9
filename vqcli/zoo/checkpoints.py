"""Other people's model files as tensors: safetensors, and torch's archives without running what is pickled in them.

A pickle is a program. `torch.load(weights_only=True)` runs a harmless part of the language; of files that hold more,
of a trainer or of a configuration, vqcli/pickles.py reads the tensors, and notes for everything else.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqcli import pickles
from vqcli.errors import ModelError, VqError
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.pickles import Made, Name

# of weights in a folder, the first that is there; then any other file of these kinds, if there is but one
NAMES = (
    *("model.safetensors", "diffusion_pytorch_model.safetensors"),
    *("pytorch_model.bin", "diffusion_pytorch_model.bin", "weights.pth"),
)
SAFE, PICKLED = (".safetensors",), (".pth", ".th", ".pt", ".ckpt", ".bin")
CONFIGS = ("config.json", "config.yaml", "config.yml", "model.yaml")
INNER = ("state_dict", "ema", "model", "best_state")  # keys under which trainers keep weights, the first that is there
LARGEST_CONFIG, LARGEST_PICKLE = 2**20, 2**26  # bytes
DTYPES = {
    **{"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
}


def find(source: Path) -> Path:
    """The file of weights that a file or a folder stands for. Raises ModelError if there is none, or no one of many."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelError(f"there is no {source}", "a folder or file of weights, or a repository: owner/name")
    for name in NAMES:
        if (source / name).is_file():
            return source / name
    for kinds in (SAFE, PICKLED):
        found = sorted(path for path in source.iterdir() if path.suffix in kinds)
        if len(found) > 1:
            raise ModelError(f"{source} has several files of weights", "name one: " + ", ".join(p.name for p in found))
        if found:
            return found[0]
    raise ModelError(f"{source} has no weights", f"looked for {', '.join((*SAFE, *PICKLED))}")


def read(path: Path) -> Checkpoint:
    """Tensors of a file of weights, with the configuration inside or beside it.

    Raises ModelError for a file that is damaged, or that could only be loaded by running its code.
    """
    inside: Mapping[str, Any] = {}
    if path.suffix in SAFE:
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path} is damaged: {error}", "fetch it again") from None
    else:
        tensors, inside = _of_pickle(path)
    return Checkpoint(tensors, _config_beside(path) or inside)


def _config_beside(path: Path) -> Mapping[str, Any]:
    for name in (path.stem + ".yaml", *CONFIGS):
        place = path.with_name(name)
        if place.is_file() and place.stat().st_size <= LARGEST_CONFIG:
            found = _parsed(place)
            if not isinstance(found, dict):
                raise ModelError(f"{place} is not a configuration")
            return found
    return {}


def _parsed(path: Path) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} is not JSON: {error}") from None
    try:
        import yaml
    except ImportError:
        raise VqError(f"{path} needs a reader of YAML", "pip install 'vqcli[hub]'") from None
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not YAML: {error}") from None


def _of_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and, where the file has some, the arguments that its net was made with."""
    if zipfile.is_zipfile(path):
        _refuse_programs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that it may not read: it says so by failing
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = _tensors_alone(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path} is damaged or not a file of torch: {str(error).splitlines()[0]}") from None
    found = content
    if isinstance(content, Mapping):
        inner = next((content[key] for key in INNER if isinstance(content.get(key), Mapping)), content)
        found = {name: tensor for name, tensor in inner.items() if isinstance(tensor, Tensor)}
    if not isinstance(found, dict) or not found:
        raise ModelError(
            f"{path} holds no tensors by name", "a whole pickled net cannot be read without running its code"
        )
    for name, tensor in found.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"{path} says that {name} is larger than what it holds")
    metadata = content.get("metadata") if isinstance(content, Mapping) else None
    arguments = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
    return {str(name): t.detach() for name, t in found.items()}, dict(arguments) if isinstance(
        arguments, Mapping
    ) else {}


def _refuse_programs(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise ModelError(f"{path} is a TorchScript program", "vq runs no code of model files; look for its state_dict")


def _tensors_alone(path: Path) -> Any:
    """The content of an archive, its tensors real and all other objects notes."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl"))
            if archive.getinfo(root + "data.pkl").file_size > LARGEST_PICKLE:
                raise ModelError(f"{path} has a pickle of more than {LARGEST_PICKLE} bytes")
            tensors = _Tensors(archive, root)
            return pickles.read(archive.read(root + "data.pkl"), tensors.make, tensors.storage)
    except (zipfile.BadZipFile, StopIteration):
        raise ModelError(f"{path} holds pickled objects, which vq does not run") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(f"{path} cannot be read without running it: {error}") from None


class _Tensors:
    """Makes tensors of what the pickle of an archive calls, and plain dictionaries of ordered ones."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive, self._root, self._storages = archive, root, {}  # type: ignore[var-annotated]

    def make(self, called: Any, arguments: Any) -> Any:
        if called == Name("collections", "OrderedDict"):
            return dict(*arguments)
        if called == Name("torch._utils", "_rebuild_tensor_v2"):
            return _tensor(*arguments)
        if called == Name("torch._utils", "_rebuild_parameter"):
            return arguments[0]
        return Made(called, arguments)

    def storage(self, reference: Any) -> Tensor:
        """A storage as a tensor of one dimension."""
        _, kind, key, _, _ = reference
        if not (isinstance(kind, Name) and kind.module == "torch" and kind.name in DTYPES):
            raise ValueError("a storage of an unknown type")
        dtype = DTYPES[kind.name]
        if key not in self._storages:
            info = self._archive.getinfo(f"{self._root}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("a compressed storage")
            data = bytearray(self._archive.read(info))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        found: Tensor = self._storages[key]
        return found


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor that its storage does not hold")
    return storage.as_strided(size, stride, offset)
