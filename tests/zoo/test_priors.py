"""Priors in files: those in integers are deflated, and nothing else comes back."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from vqcli.errors import ModelError
from vqcli.nets.priors import rounding
from vqcli.zoo import priors, registry, weights
from vqcli.zoo.priors import PriorInfo

SIZES = [15, 9, 9]


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        arguments = {"codebook_sizes": SIZES, "qualities": 3, "hidden": 48, "levels": 1}
        return rounding.rounded(registry.build("exact", arguments))


def saved(folder: Path, arrays: dict[str, np.ndarray]) -> PriorInfo:
    return priors.save(folder, arrays, {"family": "exact", "arguments": {}, "codec": "00" * 8})


def test_an_exact_prior_comes_back_bit_for_bit(net, tmp_path):
    arrays = net.arrays()
    plain, deflated = saved(tmp_path / "plain", arrays), saved(tmp_path / "deflated", arrays)
    plain.path.write_bytes(save(arrays, {"vq": json.dumps(plain.description)}))
    assert any(name.endswith(weights.DEFLATED) for name in load_file(deflated.path))
    assert deflated.path.stat().st_size < 0.9 * plain.path.stat().st_size
    for info in (plain, deflated):  # files from before are read as well
        again = priors.load_entropy_model(info, SIZES).arrays()
        assert again.keys() == arrays.keys()
        for name, array in arrays.items():
            assert again[name].dtype == array.dtype and np.array_equal(again[name], array), name


@pytest.mark.parametrize("data", [None, b"no stream", zlib.compress(b"short"), zlib.compress(bytes(2**22))])
def test_streams_of_something_else(net, tmp_path, data):
    arrays = weights.deflated(net.arrays())
    name = next(name for name in arrays if name.endswith(weights.DEFLATED))
    del arrays[name]
    info = saved(tmp_path, arrays if data is None else arrays | {name: np.frombuffer(bytearray(data), np.uint8)})
    with pytest.raises(ModelError, match="sound entropy model"):
        priors.load_entropy_model(info, SIZES)


def test_a_stream_without_its_table(net, tmp_path):
    info = saved(tmp_path, {**net.arrays(), "tables.extra.deflated": np.ones(5, np.uint8)})
    with pytest.raises(ModelError, match="other arrays"):
        priors.load_entropy_model(info, SIZES)


@pytest.mark.parametrize("shape", [[0, 2**31, 2**31, 2**31], [0, 2**62, 2**62], [0, 2**63], [0, 2**40, 0]])
def test_shapes_beyond_all_bounds(net, tmp_path, shape):
    arrays = weights.deflated(net.arrays())
    name = next(name for name in arrays if name.endswith(weights.DEFLATED)).removesuffix(weights.DEFLATED)
    info = saved(tmp_path, arrays)
    text, data = split(info.path)
    text[name]["shape"] = shape
    header = json.dumps(text).encode()
    info.path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    with pytest.raises(ModelError, match="sound entropy model"):
        priors.load_entropy_model(info, SIZES)


def split(path: Path) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]
