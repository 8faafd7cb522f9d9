"""Encoder and decoder of a model as ONNX files, for runtimes that are not torch.

    graph (nets/codecs/graphs.py) -> torch.export, sizes as symbols -> ONNX -> run by onnxruntime, compared with torch

Entropy coding stays in vq: what a graph makes and takes is codes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import ModelError, UsageError
from vqcli.files import make_folder, refuse_existing, replacing
from vqcli.nets.codecs.graphs import Axis, Graph, Graphs, Port
from vqcli.nets.layers.operators import VERSION
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import export_page
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import SOURCE

FORMATS = ("onnx",)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
DESCRIPTION, PAGE = "model.json", "README.md"
LARGEST = 2**31 - 1  # bytes of a file of protocol buffers
TRACED = {"batch": 2, "rows": 9, "columns": 10, "positions": 11}  # sizes that a graph is traced with
CHECKED = (  # and those that it is compared at
    {"batch": 1, "rows": 12, "columns": 7, "positions": 40},
    {"batch": 3, "rows": 5, "columns": 16, "positions": 25},
    {"batch": 1, "rows": 1, "columns": 1, "positions": 1},
)
SHORTEST = 4  # of lengths that torch assumes of symbols, of which a graph does without
LEAST_EQUAL = 0.999  # of codes
LARGEST_DIFFERENCE = 1e-4  # of other outputs, relative to their largest value


@dataclass(frozen=True)
class Exported:
    """A graph in a file, and how near it is to torch.

    equal       the least share of equal codes at the sizes tried, None without codes
    difference  the largest difference of other outputs, relative to their largest value; None without such
    """

    name: str
    data: bytes
    equal: float | None
    difference: float | None
    took_s: float

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "bytes": len(self.data),
            "equal_codes": self.equal,
            "largest_relative_difference": self.difference,
            "seconds": round(self.took_s, 1),
        }


def export(
    model: LoadedModel,
    folder: Path,
    *,
    levels: int | None = None,
    force: bool = False,
    progress: ProgressCallback = silent,
) -> list[Exported]:
    """Write encoder.onnx, decoder.onnx, model.json and README.md for a model on the CPU, with its first levels.

    Raises ModelError for a family without graphs and for graphs that do not compute what torch does; UsageError for
    levels that it has not, for files that are there, and where packages are missing.
    """
    check_packages()
    levels = model.net.levels if levels is None else levels
    if not 1 <= levels <= model.net.levels:
        raise UsageError(f"model {model.info.name} has {model.net.levels} levels, not {levels}", "leave --levels out")
    graphs: Graphs = model.net.graphs(levels)
    make_folder(folder)
    for name in ("encoder.onnx", "decoder.onnx", DESCRIPTION, PAGE):
        refuse_existing(folder / name, force)
    found = []
    for number, name in enumerate(("encoder", "decoder")):

        def advance(share: float, number: int = number) -> None:
            progress((number + share) / 2)

        found.append(_exported(name, model.net, graphs, advance))
    described = describe(model, levels, graphs, found)
    texts = {DESCRIPTION: json.dumps(described, indent=2) + "\n", PAGE: export_page.page(described)}
    for one in found:
        with replacing(folder / one.file, force=force) as stream:
            stream.write(one.data)
    for file, text in texts.items():
        with replacing(folder / file, force=force) as stream:
            stream.write(text.encode())
    return found


def check_packages() -> None:
    """Raise UsageError that names the package which export needs and which is missing."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError:
            raise UsageError(f"export to ONNX needs the package {package}", "pip install 'vqcli[onnx]'") from None


class Examples:
    """Inputs of both graphs: those of the decoder are what the encoder makes, so that they are likely ones."""

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs

    @torch.no_grad()
    def of(self, graph: Graph, sizes: Mapping[str, int]) -> list[Tensor]:
        """One tensor for each input of a graph of these sizes."""
        made: dict[str, Tensor] = {}
        if any(port.example is None for port in graph.inputs):
            encoder = self.graphs.encoder
            made = dict(
                zip((port.name for port in encoder.outputs), encoder.run(*self.of(encoder, sizes)), strict=True)
            )
        return [made[port.name] if port.example is None else port.example(port.of_size(sizes)) for port in graph.inputs]


def _exported(name: str, net: nn.Module, graphs: Graphs, progress: ProgressCallback = silent) -> Exported:
    begun, graph, examples = time.monotonic(), getattr(graphs, name), Examples(graphs)
    data = traced(graph, net, examples.of(graph, TRACED))
    progress(0.8)
    equal, difference = compared(data, graph, examples)
    progress(1.0)
    if (equal is not None and equal < LEAST_EQUAL) or (difference is not None and not difference < LARGEST_DIFFERENCE):
        codes = f"{equal:.4%} of its codes are equal" if equal is not None else ""
        numbers = f"its outputs differ by {difference:.1e}" if difference is not None else ""
        raise ModelError(
            f"the {name} in ONNX does not compute what torch does: {', '.join(filter(None, (codes, numbers)))}",
            "nothing was written; try other versions of torch and onnxruntime",
        )
    return Exported(name, data, equal, difference, time.monotonic() - begun)


def traced(graph: Graph, net: nn.Module, inputs: list[Tensor]) -> bytes:
    """A graph as a file of ONNX, made with inputs of one size for inputs of all."""
    dimensions = {name: torch.export.Dim(name, min=1 if name == "batch" else SHORTEST) for name in graph.axes}

    def symbols(port: Port) -> dict[int, Any]:
        return {
            place: axis.times * dimensions[axis.name] if axis.times > 1 else dimensions[axis.name]
            for place, axis in enumerate(port.shape)
            if isinstance(axis, Axis)
        }

    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(
                _Module(graph, net),
                tuple(inputs),
                dynamic_shapes=(tuple(symbols(port) for port in graph.inputs),),
                strict=False,
            )
            made = torch.onnx.export(
                program,
                input_names=[port.name for port in graph.inputs],
                output_names=[port.name for port in graph.outputs],
                opset_version=VERSION,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # of many kinds, from torch and the packages below it
            raise ModelError(f"torch does not trace this model: {str(error).strip().splitlines()[0]}") from error
        assert made is not None
        proto = made.model_proto
    for node in proto.graph.node:  # which lines of which files made it
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    if proto.ByteSize() > LARGEST:
        raise ModelError("the model takes more than the 2 GiB of an ONNX file")
    data: bytes = proto.SerializeToString()
    return data


class _Module(nn.Module):
    """A graph as torch.export takes it."""

    def __init__(self, graph: Graph, net: nn.Module) -> None:
        super().__init__()
        self.graph, self.net = graph, net  # weights that are known as such are written once

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.graph.run(*inputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters log and warn of; a failure is an error, and results are compared."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def compared(data: bytes, graph: Graph, examples: Examples) -> tuple[float | None, float | None]:
    """The least share of equal codes and the largest relative difference of other outputs, run with onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    equal: list[float] = []
    differences: list[float] = []
    for sizes in CHECKED:
        inputs = examples.of(graph, sizes)
        with torch.no_grad():
            wanted = graph.run(*inputs)
        given = {port.name: tensor.numpy() for port, tensor in zip(graph.inputs, inputs, strict=True)}
        got = session.run(None, {name: given[name] for name in names})
        for port, theirs, ours in zip(graph.outputs, got, wanted, strict=True):
            array = ours.numpy()
            if theirs.shape != array.shape:
                raise ModelError(f"{port.name} in ONNX is {list(theirs.shape)}, in torch {list(array.shape)}")
            if port.dtype == torch.int64:
                equal.append(float((theirs == array).mean()))
            else:
                differences.append(float(np.abs(theirs - array).max() / max(np.abs(array).max(), 1e-9)))
    return min(equal, default=None), max(differences, default=None)


def describe(model: LoadedModel, levels: int, graphs: Graphs, found: list[Exported]) -> dict[str, Any]:
    """What model.json holds."""
    net, info = model.net, model.info
    n = sum(net.level_codebooks[:levels])
    sizes = net.codebook_sizes[:n]
    facts: dict[str, Any] = {
        "model": info.name,
        "digest": info.digest.hex(),
        "family": info.description["family"],
        "modality": info.modality,
        "stride": net.stride,
        "levels": levels,
        "codebooks_of_level": list(net.level_codebooks[:levels]),
        "K": list(sizes),
        "bits_per_position": round(float(np.log2(sizes).sum()), 3),
        "encoder_margin": net.encoder_margin,
        "decoder_margin": net.decoder_margin,
        "opset": VERSION,
    }
    if info.modality == "audio":
        facts |= {"rate_hz": net.rate_hz, "level_db": net.level_db, "groups": net.group_names[:n]}
    else:
        facts |= {"channels": net.channels, "range": list(net.value_range), "qualities": net.qualities}
    if SOURCE in info.description:
        facts["licence"] = info.description[SOURCE]["licence"]
    for one in found:
        graph: Graph = getattr(graphs, one.name)
        facts[one.name] = {
            "file": one.file,
            "sha256": hashlib.sha256(one.data).hexdigest(),
            "about": graph.about,
            "inputs": [_described(port) for port in graph.inputs],
            "outputs": [_described(port) for port in graph.outputs],
            "compared_with_torch": {"equal_codes": one.equal, "largest_relative_difference": one.difference},
        }
    return facts


def _described(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "type": str(port.dtype).removeprefix("torch."),
        "shape": [axis if isinstance(axis, int) else str(axis) for axis in port.shape],
        "range": list(port.range) if port.range else None,
        "about": port.about,
    }
