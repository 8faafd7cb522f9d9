import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_bytes

from vqcli.entropy.statistics import Statistics
from vqcli.errors import ModelError, VqError
from vqcli.zoo import loading, registry, store

ARGUMENTS = {"widths": [4], "dim": 2, "blocks": 0, "quantizer": {"kind": "scalar", "limits": 3}}
DESCRIPTION = {"family": "vqvae2d", "arguments": ARGUMENTS, "modality": "image"}


@pytest.fixture
def places(monkeypatch, tmp_path) -> list[Path]:
    """Two folders of VQ_MODELS and the user's, all of them empty."""
    first, second, data = tmp_path / "first", tmp_path / "second", tmp_path / "data"
    monkeypatch.setenv("VQ_MODELS", f"{first}:{second}")
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    monkeypatch.setattr(sys, "platform", "linux")
    return [first, second, data / "vq" / "models"]


def put(model, folder: Path, **extra: object) -> store.ModelInfo:
    """A model file of its own digest in `folder`."""
    return loading.save(folder, model.net, model.statistics, {**model.info.description, **extra})


# ---------------------------------------------------------------- save and load


@pytest.mark.parametrize("name", ["scalar_model", "vector_model"])
def test_what_is_saved_is_what_is_loaded(request, name, tmp_path):
    model = request.getfixturevalue(name)
    info = put(model, tmp_path / "again", steps=7)
    assert info.description == {**model.info.description, "steps": 7, "format": 1}
    again = loading.load(info, "cpu")
    assert not again.net.training
    assert not any(parameter.requires_grad for parameter in again.net.parameters())
    for key, tensor in model.net.state_dict().items():
        assert again.net.state_dict()[key].dtype == torch.float32
        assert torch.equal(again.net.state_dict()[key], tensor), key  # float16 already
    for key, table in model.statistics.arrays().items():
        assert np.array_equal(again.statistics.arrays()[key], table)
        assert again.statistics.arrays()[key].dtype == table.dtype


def test_weights_ship_as_float16(tmp_path):
    net = registry.build("vqvae2d", ARGUMENTS)
    info = loading.save(tmp_path / "x", net, None, DESCRIPTION)
    loaded = loading.load(info, "cpu")
    assert loaded.statistics is None
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[key], tensor.half().float())
    weights = sum(tensor.numel() for tensor in net.state_dict().values())
    assert info.path.stat().st_size < 2 * weights + 4096


def test_large_statistics_ship_deflated(tmp_path):
    arguments = {**ARGUMENTS, "quantizer": {"kind": "scalar", "limits": [255, 100]}}
    counts = np.zeros((2, 16, 511), np.uint16)
    counts[0], counts[1, :, :201] = 1, np.arange(1, 202)
    fitted = Statistics(
        **{name: np.ones((2, width), np.int32) for name, width in (("mean", 4), ("own", 4), ("earlier", 2))},
        thresholds=np.arange(30, dtype=np.int32).reshape(2, 15),
        counts=counts,
    )
    net = registry.build("vqvae2d", arguments)
    info = loading.save(tmp_path / "x", net, fitted, {**DESCRIPTION, "arguments": arguments})
    weights = sum(tensor.numel() for tensor in net.state_dict().values())
    assert info.path.stat().st_size < 2 * weights + 4096 + counts.nbytes // 4
    loaded = loading.load(info, "cpu")
    for key, table in fitted.arrays().items():
        assert np.array_equal(loaded.statistics.arrays()[key], table)
        assert loaded.statistics.arrays()[key].dtype == table.dtype
    # measured again and saved again, it is the same file
    assert loading.save(tmp_path / "y", loaded.net, loaded.statistics, info.description).digest == info.digest


def test_the_digest_follows_the_file(scalar_model, tmp_path):
    a, b, c = (put(scalar_model, tmp_path / name, steps=steps) for name, steps in (("a", 1), ("b", 1), ("c", 2)))
    assert a.digest == b.digest != c.digest
    assert len(a.digest) == 8


def test_saving_replaces_the_model(scalar_model, tmp_path):
    put(scalar_model, tmp_path / "x", steps=1)
    assert put(scalar_model, tmp_path / "x", steps=2).description["steps"] == 2
    assert [path.name for path in (tmp_path / "x").iterdir()] == [store.FILE]


def test_describing_takes_no_torch(scalar_model, models_folder):
    code = (
        "import sys; from pathlib import Path; from vqcli.zoo import store\n"
        "info = store.describe(Path(sys.argv[1])); print(info.name, info.modality, info.digest.hex())\n"
        "store.find('scalar'); store.list_models()\n"
        "assert not {'torch', 'numpy', 'safetensors', 'numba'} & sys.modules.keys(), 'heavy imports'\n"
    )
    environment = {"VQ_MODELS": str(models_folder), "PATH": "", "PYTHONPATH": str(Path(store.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(scalar_model.info.folder)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["scalar", "image", scalar_model.info.digest.hex()]


def test_unknown_devices(scalar_model):
    for device in ("quantum", "meta-physics", "cuda:99"):
        with pytest.raises(VqError, match=device):
            loading.load(scalar_model.info, device)


# ---------------------------------------------------------------- find


def test_search_path(places, scalar_model):
    assert store.search_path()[:3] == places
    assert store.search_path()[3].name in ("shipped", "models")
    for place in reversed(places):  # each goes before those that were there
        put(scalar_model, place / "m", where=str(place))
        assert store.find("m").description["where"] == str(place)
    assert [info.folder for info in store.list_models() if info.name == "m"] == [places[0] / "m"]


def test_find_by_folder(places, scalar_model, monkeypatch, tmp_path):
    put(scalar_model, tmp_path / "somewhere" / "mine")
    assert store.find(str(tmp_path / "somewhere" / "mine")).name == "mine"
    monkeypatch.chdir(tmp_path / "somewhere")
    assert store.find("mine").folder == tmp_path / "somewhere" / "mine"
    assert store.find("./mine").name == "mine"
    monkeypatch.chdir("mine")
    assert store.find(".").name == "mine"


def test_unknown_names_list_near_ones(places, scalar_model):
    put(scalar_model, places[0] / "landscape")
    with pytest.raises(ModelError) as caught:
        store.find("landscap")
    assert str(places[0]) in str(caught.value) and str(places[2]) in str(caught.value)
    assert caught.value.hint == "did you mean landscape?"
    with pytest.raises(ModelError):
        store.find("landscape/elsewhere")


def test_find_for_file_goes_by_digest(places, scalar_model):
    old = put(scalar_model, places[0] / "m", version=1)
    renamed = put(scalar_model, places[1] / "other", version=2)
    assert store.find_for_file("m", old.digest).folder == places[0] / "m"
    assert store.find_for_file("m", renamed.digest).folder == places[1] / "other"
    assert store.find_for_file("gone", renamed.digest).folder == places[1] / "other"


def test_find_for_file_looks_in_the_current_folder_as_find_does(places, scalar_model, tmp_path, monkeypatch):
    """`vq train -o mine` and `vq encode --model mine` make files that decode from the same place."""
    mine = put(scalar_model, tmp_path / "here" / "mine")
    monkeypatch.chdir(tmp_path / "here")
    assert store.find("mine").digest == mine.digest
    assert store.find_for_file("mine", mine.digest).folder == mine.folder.resolve()


def test_find_for_file_says_what_was_there_instead(places, scalar_model):
    there = put(scalar_model, places[0] / "m")
    with pytest.raises(ModelError) as caught:
        store.find_for_file("m", b"12345678")
    for word in (b"12345678".hex(), there.digest.hex(), str(places[0] / "m")):
        assert word in str(caught.value)
    with pytest.raises(ModelError) as caught:
        store.find_for_file("n", b"12345678")
    assert "model n" in str(caught.value) and str(places[1]) in str(caught.value)


def test_a_corrupt_neighbour_does_no_harm(places, scalar_model):
    """One broken download must not keep every other model from being found."""
    (places[0] / "broken").mkdir(parents=True)
    (places[0] / "broken" / store.FILE).write_bytes(b"half a")
    good = put(scalar_model, places[0] / "good")
    assert store.find("good").digest == good.digest
    assert store.find_for_file("renamed", good.digest).name == "good"
    with pytest.raises(ModelError, match="no model goof"):
        store.find("goof")


# ---------------------------------------------------------------- corrupt files


def header_of(description: object) -> bytes:
    """A safetensors file without tensors whose metadata is `description`."""
    text = json.dumps({"__metadata__": {"vq": json.dumps(description)}}).encode()
    return len(text).to_bytes(8, "little") + text


def sized(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    {
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(1000),
        "huge header": (2**62).to_bytes(8, "little") + b"{}",
        "header beyond the end": (1000).to_bytes(8, "little") + b"{}",
        "no metadata": sized(b"{}"),
        "another tool's": sized(b'{"__metadata__": {"format": "pt"}}'),
        "a list": sized(b"[1, 2]"),
        "a number": sized(b"5"),
        "bad text": sized(b'"\xff\xfe"'),
        "deep": sized(b"[" * 100_000),
        "metadata is a list": sized(b'{"__metadata__": []}'),
        "no format": header_of({"family": "vqvae2d", "arguments": {}, "modality": "image"}),
        "a later format": header_of({**DESCRIPTION, "format": 2}),
        "description is a list": header_of([1]),
        "description is a word": header_of("photo"),
        "no family": header_of({"format": 1, "arguments": {}, "modality": "image"}),
        "no arguments": header_of({"format": 1, "family": "vqvae2d", "modality": "image"}),
        "no modality": header_of({"format": 1, "family": "vqvae2d", "arguments": {}}),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_model(tmp_path, data):
    (tmp_path / store.FILE).write_bytes(data[1])
    with pytest.raises(ModelError, match="not a model of vq"):
        store.describe(tmp_path)


def test_no_file_at_all(tmp_path):
    with pytest.raises(ModelError):
        store.describe(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "vqvae3d"},
        {"family": ["vqvae2d"]},
        {"family": 5},
        {"arguments": {**ARGUMENTS, "colour": 1}},
        {"arguments": [1, 2]},
        {"arguments": {**ARGUMENTS, "quantizer": {"kind": "lattice"}}},
        {"arguments": {**ARGUMENTS, "quantizer": {"limits": 3}}},
        {"arguments": {**ARGUMENTS, "quantizer": {"kind": "vector", "K": 0}}},
        {"arguments": {**ARGUMENTS, "widths": "ab"}},
        {"arguments": {**ARGUMENTS, "widths": [-4]}},
        {"arguments": {**ARGUMENTS, "widths": []}},
        {"arguments": {**ARGUMENTS, "dim": 3}},  # sound, but not that of the weights
    ],
    ids=str,
)
def test_descriptions_that_make_no_net(tmp_path, change):
    with pytest.raises(ModelError):
        loading.load(
            loading.save(tmp_path / "x", registry.build("vqvae2d", ARGUMENTS), None, {**DESCRIPTION, **change}), "cpu"
        )


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_truncated_weights(scalar_model, tmp_path, share):
    shutil.copytree(scalar_model.info.folder, tmp_path / "x")
    data = (tmp_path / "x" / store.FILE).read_bytes()
    (tmp_path / "x" / store.FILE).write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError):
        loading.load(str(tmp_path / "x"), "cpu")


def rewritten(model, folder: Path, tensors: dict[str, torch.Tensor | None]) -> Path:
    """The model file with other tensors in place of its own, or without them."""
    all_tensors = {key: tensor.half() for key, tensor in model.net.state_dict().items()}
    all_tensors |= {store.STATISTICS + key: torch.from_numpy(t) for key, t in model.statistics.arrays().items()}
    kept = {key: tensor for key, tensor in {**all_tensors, **tensors}.items() if tensor is not None}
    folder.mkdir(parents=True)
    (folder / store.FILE).write_bytes(to_bytes(kept, {"vq": json.dumps(model.info.description)}))
    return folder


@pytest.mark.parametrize(
    "tensors",
    [
        {"quantizer.log_gain": None},
        {"quantizer.log_gain": torch.zeros(2, 2)},
        {"extra": torch.zeros(1)},
        {"statistics.mean": None},
        {"statistics.extra": torch.zeros(1)},
        # the coders are compiled without bounds checks: tables that do not fit would read beyond their end
        {"statistics.counts": torch.ones(3, 1, 14, dtype=torch.uint16)},
        {"statistics.counts": torch.ones(2, 1, 15, dtype=torch.uint16)},
        {"statistics.counts": torch.ones(3, 15, dtype=torch.uint16)},
        {"statistics.counts": torch.zeros(3, 1, 15, dtype=torch.uint16)},  # no code is possible
        {"statistics.thresholds": torch.zeros(3, 1, dtype=torch.int32)},  # two contexts, counts for one
        {"statistics.mean": torch.zeros(3, 3, dtype=torch.int32)},
        {"statistics.own": torch.zeros(3, 4)},
        {"statistics.earlier": torch.zeros(2, 2, dtype=torch.int32)},
    ],
    ids=lambda tensors: " ".join(f"{k} {t if t is None else (tuple(t.shape), t.dtype)}" for k, t in tensors.items()),
)
def test_tensors_that_do_not_belong(scalar_model, tmp_path, tensors):
    folder = rewritten(scalar_model, tmp_path / "x", tensors)
    with pytest.raises(ModelError):
        loading.load(str(folder), "cpu")


def stream(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((0, 3, 1, 15), b"no stream"),
        ((0, 3, 1, 15), zlib.compress(bytes(89))),
        ((0, 3, 1, 15), zlib.compress(bytes(90))),  # no code is possible
        ((0, 3, 1, 15), zlib.compress(bytes(2**22))),
        ((0, 3, 15), zlib.compress(bytes(90))),
        ((0, 2**20, 2**20), zlib.compress(bytes(90))),
        ((3, 1, 15), zlib.compress(bytes(90))),
    ],
)
def test_deflated_tables_that_do_not_belong(scalar_model, tmp_path, shape, data):
    tensors = {
        "statistics.counts": torch.zeros(shape, dtype=torch.uint16),
        "statistics.counts.deflated": torch.frombuffer(bytearray(data), dtype=torch.uint8),
    }
    with pytest.raises(ModelError, match="counts"):
        loading.load(str(rewritten(scalar_model, tmp_path / "x", tensors)), "cpu")


@pytest.mark.parametrize("shape", [[0, 2**40, 2**40], [0, 2**62, 2**62], [0, 2**63], [0, 2**40, 0]])
def test_shapes_beyond_all_bounds(scalar_model, tmp_path, shape):
    counts = {
        "statistics.counts": torch.zeros(0, dtype=torch.uint16),
        "statistics.counts.deflated": torch.ones(9).byte(),
    }
    path = rewritten(scalar_model, tmp_path / "x", counts) / store.FILE
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["statistics.counts"]["shape"] = shape
    path.write_bytes(sized(json.dumps(header).encode()) + data[end:])
    with pytest.raises(ModelError, match="does not hold"):
        loading.load(str(tmp_path / "x"), "cpu")


def test_rewriting_alone_does_no_harm(scalar_model, tmp_path):
    folder = rewritten(scalar_model, tmp_path / "x", {})
    assert loading.load(str(folder), "cpu").statistics is not None
