import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save as save_tensors

from vqcli.zoo import store, weights
from vqcli.zoo.weights import DEFLATED


def test_sixteen_bits_unless_asked():
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    packed = weights.packed(tensors)
    assert {array.dtype for array in packed.values()} == {np.dtype(np.float16)}
    again = weights.unpacked(packed)
    assert all(torch.equal(again[name], tensors[name].half().float()) for name in tensors)


def test_matrices_of_the_named_parts_take_eight_bits():
    tensors = {"decoder.w": torch.randn(6, 3, 5), "decoder.bias": torch.randn(6), "encoder.w": torch.randn(6, 3)}
    packed = weights.packed(tensors, ["decoder"])
    assert packed["decoder.w"].dtype == np.int8 and packed["decoder.bias"].dtype == np.float16
    assert packed["encoder.w"].dtype == np.float16
    again = weights.unpacked(packed)
    assert again.keys() == tensors.keys()
    steps = tensors["decoder.w"].flatten(1).abs().amax(1) / 127
    error = (again["decoder.w"] - tensors["decoder.w"]).flatten(1).abs().amax(1)
    assert (error <= 0.51 * steps + 1e-3 * steps).all()


def test_packing_what_was_unpacked_changes_nothing():
    once = weights.packed({"w": torch.randn(4, 9)}, ["w"])
    twice = weights.packed(weights.unpacked(once), ["w"])
    assert np.array_equal(once["w"], twice["w"]) and np.array_equal(once["w.scale"], twice["w.scale"])


def test_rows_of_zeros_stay_zero():
    assert not weights.unpacked(weights.packed({"w": torch.zeros(2, 3)}, ["w"]))["w"].any()


def test_a_scale_of_another_size_is_refused():
    packed = weights.packed({"w": torch.randn(4, 9)}, ["w"])
    with pytest.raises(ValueError, match="scale"):
        weights.unpacked(packed | {"w.scale": np.ones(3, np.float16)})


# ---------------------------------------------------------------- deflated tables


def tables() -> dict[str, np.ndarray]:
    """Of all types that coders have, most of them worth deflating."""
    draw = np.random.default_rng(0)
    return {
        "counts": np.maximum(1, draw.normal(0, 40, (3, 16, 63))).astype(np.uint16),
        "weight": draw.normal(0, 500, (2, 24, 40)).astype(np.int16),
        "bias": draw.normal(0, 5000, (7, 90)).astype(np.int32),
        "embedding": draw.normal(0, 9, (65, 24)).astype(np.int8),
        "noise": draw.integers(-(2**15), 2**15, (40, 40)).astype(np.int16),
        "small": np.zeros(5, np.int32),
        "none": np.zeros((0, 64), np.int16),
        "one": np.array(3, np.int32),
        "halves": draw.normal(0, 0.05, (40, 60)).astype(np.float16),
        "floats": draw.normal(0, 0.05, (3, 700)).astype(np.float32),
        "strange": np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, 6e-8], np.float16), 2000),
        "flags": np.zeros(4000, bool),
    }


DEFLATABLE = {"counts", "weight", "bias", "embedding", "halves", "floats", "strange"}


def test_what_is_deflated_is_what_is_inflated():
    arrays = tables()
    written = weights.deflated(arrays)
    streams = {name.removesuffix(DEFLATED) for name in written if name.endswith(DEFLATED)}
    assert streams == DEFLATABLE  # the others would gain nothing, or too little
    again = weights.inflated(written)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        found = again[name]
        assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes(), name
        # compiled code makes a difference of arrays that cannot be written
        assert found.flags.writeable and found.flags.c_contiguous and found.flags.aligned and found.dtype.isnative


def test_deflating_saves():
    arrays = tables()
    written = weights.deflated(arrays)
    for name in DEFLATABLE:
        assert written[name].nbytes == 0 and written[name].shape == (0, *arrays[name].shape)
        assert written[name + DEFLATED].nbytes < 0.95 * arrays[name].nbytes


def test_looking_for_repeats_is_given_up_where_there_are_none():
    arrays = {"w": np.random.default_rng(1).normal(0, 40, (60, 100)).astype(np.int8)}
    stream = weights.deflated(arrays)["w" + DEFLATED]
    assert len(stream) < len(zlib.compress(arrays["w"].tobytes(), 9))


def test_deflating_again_changes_nothing():
    once = weights.deflated(tables())
    twice = weights.deflated(once)
    assert twice.keys() == once.keys() and all(np.array_equal(once[name], twice[name]) for name in once)


def test_files_come_back_whether_deflated_or_not(tmp_path):
    arrays = tables()
    (tmp_path / "new").write_bytes(weights.to_bytes(arrays, {"steps": 3}))
    (tmp_path / "old").write_bytes(save(arrays, {"vq": "{}"}))
    assert (tmp_path / "new").stat().st_size < (tmp_path / "old").stat().st_size
    assert store.read_description(tmp_path / "new") == {"steps": 3}
    for name in ("new", "old"):
        again = weights.read(tmp_path / name)
        assert again.keys() == arrays.keys()
        assert all(again[key].tobytes() == arrays[key].tobytes() for key in arrays)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_types_that_no_file_of_ours_has(tmp_path, dtype):
    (tmp_path / "x").write_bytes(save_tensors({"w": torch.zeros(3, dtype=dtype)}))
    with pytest.raises(ValueError):
        weights.read(tmp_path / "x")


def test_tables_that_were_never_deflated_are_read_as_they_are():
    arrays = tables()
    again = weights.inflated(arrays)
    assert all(again[name] is array for name, array in arrays.items())


def test_a_deflated_table_by_its_bytes():
    """All lowest bytes, then all next ones: the layout stays, so that files do."""
    stream = zlib.compress(bytes([1, 2, 3, 4, 0, 0, 0, 255]))
    written = {"t": np.empty((0, 2, 2), np.int16), "t" + DEFLATED: np.frombuffer(stream, np.uint8)}
    assert weights.inflated(written)["t"].tolist() == [[1, 2], [3, 4 - 256]]


def stream_of(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


GOOD = zlib.compress(bytes(2000), 9)


@pytest.mark.parametrize(
    ("table", "stream"),
    {
        "no stream at all": (np.empty((0, 1000), np.int16), b""),
        "noise": (np.empty((0, 1000), np.int16), np.random.default_rng(0).bytes(500)),
        "cut short": (np.empty((0, 1000), np.int16), GOOD[:-5]),
        "without its checksum": (np.empty((0, 1000), np.int16), GOOD[:-4]),
        "another checksum": (np.empty((0, 1000), np.int16), GOOD[:-1] + b"\x99"),
        "more behind it": (np.empty((0, 1000), np.int16), GOOD + b"\0"),
        "a raw stream": (np.empty((0, 1000), np.int16), GOOD[2:-4]),
        "too few bytes": (np.empty((0, 1001), np.int16), GOOD),
        "too many bytes": (np.empty((0, 999), np.int16), GOOD),
        "bytes for nothing": (np.empty((0, 0), np.int16), GOOD),
        "a bomb": (np.empty((0, 1000), np.int16), zlib.compress(bytes(2**24), 9)),
        "too large a table": (np.empty((0, 2**20, 2**20), np.int16), GOOD),
        "a little too large": (np.empty((0, 2**28 + 1), np.int8), GOOD),
        "not empty": (np.zeros((1, 1000), np.int16), GOOD),
        "no axis": (np.array(1, np.int16), GOOD),
        "no numbers": (np.empty((0, 2000), bool), GOOD),
    }.values(),
    ids=lambda value: str(value.shape) if isinstance(value, np.ndarray) else len(value),
)
def test_streams_that_do_not_belong_to_their_table(table, stream):
    with pytest.raises(ValueError, match="table"):
        weights.inflated({"table": table, "table" + DEFLATED: stream_of(stream)})


def test_a_stream_of_another_type():
    stream = np.frombuffer(GOOD, np.int8)
    with pytest.raises(ValueError, match="table"):
        weights.inflated({"table": np.empty((0, 1000), np.int16), "table" + DEFLATED: stream})


def test_tables_may_not_be_too_large_together(monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_BYTES", 9000)
    written = weights.deflated({name: np.ones(1500, np.int16) for name in "abc"})
    weights.inflated(written)
    with pytest.raises(ValueError, match="larger"):
        weights.inflated(written | weights.deflated({"d": np.ones(1500, np.int16)}))
    # and what is written can be read
    assert "d" + DEFLATED not in weights.deflated({name: np.ones(1500, np.int16) for name in "abcd"})


def test_a_bomb_takes_no_memory():
    """Neither a stream that never ends nor a size that no stream fills is believed before it is seen."""
    bomb = stream_of(zlib.compress(bytes(2**25), 9))
    large, little = np.empty((0, 2**28), np.int8), np.empty((0, 100), np.int16)
    tracemalloc.start()
    try:
        for table, stream in ((little, bomb), (large, stream_of(GOOD))):
            with pytest.raises(ValueError, match="table"):
                weights.inflated({"table": table, "table" + DEFLATED: stream})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_stream_without_a_table_stays():
    """Those who know what tables there should be find one too many."""
    assert list(weights.inflated({"x" + DEFLATED: stream_of(GOOD)})) == ["x" + DEFLATED]
