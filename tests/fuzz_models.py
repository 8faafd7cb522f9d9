"""Random damage to models and their priors: python -m tests.fuzz_models --count 10000 --seed 0

Tiny nets of every family, and tiny priors of every family beside some of them. A case is a file with an edited
description, edited tensors, an edited table that is deflated again, or damaged bytes; it is listed, shown, loaded, and
encodes, decodes or samples. Digests are made to fit, as whoever means harm would.
"""

import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.numpy import load, save

import vqcli
from tests.fuzzing import Case, damaged, edited, edited_tensors, join, main, split
from tests.nets.codecs.test_conformance import CONTRACT, FAMILIES, SMALL
from vqcli.cli import info as shown
from vqcli.cli.models import rows as listed
from vqcli.codec import chunks, voices
from vqcli.entropy import statistics
from vqcli.errors import ModelError
from vqcli.nets.priors import rounding
from vqcli.zoo import filling, loading, priors, registry, store, weights

SPEAKERS = [{"name": name, "seconds": 9.0, "pitch_hz": 120.0, "sex": "f", "source": "made"} for name in "ab"]
VECTOR = {"widths": [4, 4], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
SCALAR = {"widths": [4, 4], "dim": 3, "blocks": 1, "quantizer": {"kind": "scalar", "limits": [4, 4, 7], "qualities": 3}}
RECIPE = {
    "description": "made", "modality": "image", "model": {"family": "pixelcnn", "arguments": {}},
    "data": {"size": 16, "crop": 16}, "rate": {"lambda_low": 1.0, "lambda_high": 2.0, "ssim": 0.5},
}  # fmt: skip
Change = Callable[[bytes, random.Random], bytes]


def edit_description(data: bytes, source: random.Random) -> bytes:
    header, body = split(data)
    described = json.loads(header["__metadata__"]["vq"])
    for _ in range(source.choice((1, 1, 2))):
        described = edited(described, source)
    return join(header | {"__metadata__": {"vq": json.dumps(described)}}, body)


def edit_text(data: bytes, source: random.Random) -> bytes:
    """A description that is none."""
    text = source.choice(("[]", "1", "NaN", "{" * 2000, "[" * 100_000, '"x"', "", '{"format":1}', '{"format":1e999}'))
    header, body = split(data)
    return join(header | {"__metadata__": {"vq": text}}, body)


def edit_tensors(data: bytes, source: random.Random) -> bytes:
    return join(*edited_tensors(*split(data), source))


def edit_table(data: bytes, source: random.Random) -> bytes:
    """A table, inflated, edited and deflated again: that reaches the checks of the tables themselves."""
    arrays, entries, metadata = tables(data)
    name = source.choice(sorted(arrays))
    table, what = np.array(arrays[name]), source.random()
    if what < 0.55 and table.size:
        info = np.iinfo(table.dtype) if table.dtype.kind in "iu" else None
        values = (info.max, info.min, 0, 1) if info else (np.nan, np.inf, -np.inf, 0.0, 1e4, -1e4)
        table.reshape(-1)[source.randrange(table.size) if source.random() < 0.5 else ...] = source.choice(values)
    elif what < 0.7:
        with np.errstate(all="ignore"):
            table = table.astype(source.choice(("f4", "f8", "i8", "i1", "u1", "i4", "u2")))
    elif what < 0.9:
        other = (table.reshape(-1), table[:0] if table.ndim else table, table[None], table.T, np.zeros((0, 3)))
        table = source.choice((*other, table[..., :-1] if table.ndim else table, np.zeros((), table.dtype)))
    others = {key: array for key, array in entries.items() if key not in (name, name + weights.DEFLATED)}
    changed = weights.deflated({name: np.array(table, order="C")}) if what < 0.95 else {}
    return save({**others, **changed}, metadata)


@cache
def tables(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """Of a file: its arrays, the entries that these are written as, and its metadata."""
    arrays = weights.inflated(load(data))
    return arrays, weights.deflated(arrays), split(data)[0]["__metadata__"]


CHANGES: tuple[Change, ...] = (
    edit_description,
    edit_description,
    edit_text,
    edit_tensors,
    edit_table,
    edit_table,
    damaged,
)


@cache
def model_file(family: str, text: str = "") -> bytes:
    """A tiny model with statistics."""
    arguments = {"vector": VECTOR, "scalar": SCALAR}.get(text) or SMALL.get(family, {})
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        net = FAMILIES[family](**arguments)
        sizes = list(net.codebook_sizes)
        description = {
            "family": family,
            "arguments": arguments,
            "modality": CONTRACT[family],
            "steps": 3,
            "recipe": RECIPE,
        }
        if getattr(net, "speakers", 0):
            description["speakers"] = [*SPEAKERS, *SPEAKERS * net.speakers][: net.speakers]
        tables = statistics.flat(sizes) if sizes else None
        loading.save(Path(folder) / "m", net, tables, description)
        return (Path(folder) / "m" / store.FILE).read_bytes()


def prior_arrays(family: str, sizes: list[int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Arguments and weights of a tiny prior."""
    small: dict[str, dict[str, Any]] = {
        "pixelcnn": {"width": 8, "layers": 2, "hidden": 16, "labels": 2, "unlabelled": True},
        "frames": {"actions": 2, "width": 8, "blocks": 1, "condition": 4, "embedded": 4,
                   "decoder": {"width": 8, "layers": 2, "hidden": 8}},
        "wavenet": {"residual": 8, "skip": 8, "cycles": 1, "layers_per_cycle": 2, "hidden": 8, "labels": 2},
        "exact": {"hidden": 48, "levels": 1},
        "exact1d": {"hidden": 48},
    }  # fmt: skip
    arguments = {"codebook_sizes": sizes, **small[family]}
    net = registry.build(family, arguments)
    if family == "exact":
        return arguments, rounding.rounded(net).arrays()
    if family == "exact1d":
        return arguments, rounding.rounded_sequence(net).arrays()
    return arguments, weights.packed(net.state_dict())


@cache
def prior_file(family: str, model: bytes) -> bytes:
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        loaded = _put(Path(folder), model)
        arguments, arrays = prior_arrays(family, list(loading.load(loaded, "cpu").net.codebook_sizes))
        description = {"family": family, "arguments": arguments, "codec": loaded.digest.hex(), "classes": ["a", "b"],
                       "aliases": {"c": "a"}, "recipe": RECIPE}  # fmt: skip
        return priors.save(Path(folder) / "m", arrays, description).path.read_bytes()


def _put(folder: Path, model: bytes) -> store.ModelInfo:
    (folder / "m").mkdir(exist_ok=True)
    (folder / "m" / store.FILE).write_bytes(model)
    return store.describe(folder / "m")


@cache
def _loaded(model: bytes) -> loading.LoadedModel:
    """A sound model: what is beside it changes from case to case."""
    with tempfile.TemporaryDirectory() as folder:
        return loading.load(_put(Path(folder), model), "cpu")


def show(model: store.ModelInfo) -> None:
    """What `vq models` and `vq info` say of it."""
    listed([model])
    for value in shown.model_facts(model).values():
        shown._text(value)


def use_model(data: bytes, folder: Path) -> None:
    model = _put(folder, data)
    show(model)
    with mock.patch.object(filling, "SPARE", 2**20):  # nets of this size are far below it, so refusing is as thorough
        loaded = loading.load(model, "cpu")
    code(loaded)
    if model.modality == "audio" and model.description.get("speakers"):
        voices.speakers(model)


@mock.patch.object(chunks, "_together", lambda work, tasks, most=1: [work(task) for task in tasks])  # threads cost more
def code(loaded: loading.LoadedModel) -> None:
    """Encode and decode an image or a recording."""
    draw = np.random.default_rng(0)
    if loaded.info.modality == "image":
        side = loaded.image.frame_size or (16, 24)
        encoded = vqcli.encode(draw.integers(0, 255, (*side, loaded.image.channels), np.uint8), loaded)
        vqcli.decode(encoded.data, loaded)
        return
    samples = draw.normal(0, 0.1, (loaded.audio.channels, 3000)).astype(np.float32)
    encoded = vqcli.encode(samples, loaded, rate_hz=16_000)
    list(vqcli.decode(encoded.data, loaded).blocks())


def use_prior(model: bytes, family: str) -> Callable[[bytes, Path], None]:
    def use(data: bytes, folder: Path) -> None:
        info = _put(folder, model)
        priors.path_of(folder / "m", family).write_bytes(data)
        show(info)
        loaded = replace(_loaded(model), info=info)
        if family == "pixelcnn":
            vqcli.sample(loaded, labels=["a", "c"], count=1, seed=1)
        elif family == "frames":
            vqcli.sample_video(loaded, frames=1, actions=["a"])
        elif family == "wavenet":
            vqcli.sample_speech(loaded, speakers=["a"], seconds=0.1)
        else:
            code(loaded)
        if info.description["family"] and not priors.beside(info):
            raise ModelError("there is no prior")

    return use


def cases() -> dict[str, Case]:
    """A model of every family, and priors of every family."""
    models: Mapping[str, bytes] = {
        **{family: model_file(family) for family in sorted(FAMILIES)},
        "scalar": model_file("vqvae2d", "scalar"),
        "vector": model_file("vqvae2d", "vector"),
    }
    beside = {
        "vector": ("pixelcnn", "frames", "exact"),
        "scalar": ("exact",),
        "speech": ("wavenet", "exact1d"),
        "encodec": ("exact1d",),
    }
    found = {f"model {name}": Case(_changed(data), use_model) for name, data in models.items()}
    for name, families in beside.items():
        for family in families:
            data = prior_file(family, models[name])
            found[f"prior {family} of {name}"] = Case(_changed(data), use_prior(models[name], family))
    return found


def _changed(data: bytes) -> Callable[[random.Random], bytes]:
    def change(source: random.Random) -> bytes:
        return source.choice(CHANGES)(data, source)

    return change


if __name__ == "__main__":
    main(__doc__, cases)
