import json
import random
import struct
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.data.test_sources import assert_same, png
from vqcli.container import checksums
from vqcli.data import packs
from vqcli.data.dataset import Dataset
from vqcli.data.sources import open_source, open_sources
from vqcli.errors import BadFile, UsageError
from vqcli.media import image


@pytest.fixture(scope="module")
def packed(animals, tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "animals.safetensors"
    packs.write(open_source(animals), path)
    return path


def test_a_pack_is_like_the_folder(animals, packed):
    assert_same(open_source(packed), open_source(animals))


def test_packing_changes_nothing_for_training(animals, packed, tmp_path):
    """Neither the split nor the classes, also not when packed again from several sources."""
    joined = open_sources([animals, packed])
    packs.write(joined, tmp_path / "again.safetensors")
    assert_same(open_source(tmp_path / "again.safetensors"), joined)
    for held_out in (False, True):
        names = [name for name, held in zip(joined.names, joined.held_out, strict=True) if held == held_out]
        if names:
            assert Dataset([tmp_path / "again.safetensors"], held_out=held_out).names == names


def test_other_tools_read_a_pack(animals, packed):
    tensors = load_file(packed)
    assert tensors["shapes"][0].tolist() == [24, 24, 1]  # grey costs a third
    assert tensors["shapes"][1].tolist() == [24, 24, 3]
    start, end = tensors["offsets"][1:3]
    pixels = tensors["pixels"][start:end].reshape(24, 24, 3)
    assert np.array_equal(pixels, image.read(animals / "ape" / "03.png").pixels)


def test_the_shorter_side_is_reduced(tmp_path, picture):
    for height, width in ((40, 20), (20, 60), (10, 30), (16, 16)):
        (tmp_path / f"{height}x{width}.png").write_bytes(png(picture(height, width)))
    packs.write(open_source(tmp_path), tmp_path / "a.safetensors", size=16)
    source = open_source(tmp_path / "a.safetensors")
    shapes = {name: source.read(index).shape[:2] for index, name in enumerate(source.names)}
    assert shapes == {"10x30.png": (10, 30), "16x16.png": (16, 16), "20x60.png": (16, 48), "40x20.png": (32, 16)}


def test_damaged_pictures_are_left_out(tmp_path, picture):
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(png(picture(8, 8)))
    (tmp_path / "b.png").write_bytes(b"nothing")
    shares = []
    packed = packs.write(open_source(tmp_path), tmp_path / "a.safetensors", progress=shares.append)
    assert packed.pictures == 2 and list(packed.skipped) == ["b.png"] and shares == [1 / 3, 2 / 3, 1.0]
    assert packed.size_bytes == (tmp_path / "a.safetensors").stat().st_size
    assert list(open_source(tmp_path / "a.safetensors").names) == ["a.png", "c.png"]
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadFile, match="no image can be read"):
        packs.write(open_source(tmp_path), tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir() if "b.safetensors" in path.name] == []
    with pytest.raises(UsageError, match="exists"):
        packs.write(open_source(tmp_path), tmp_path / "a.safetensors")


def parts_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put(path, header, body):
    """A pack whose checksum fits whatever else is wrong with it."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    front, pixels = struct.pack("<Q", len(text)) + text, 0
    if isinstance(header, dict) and "crc32" in header["__metadata__"]:
        pixels = header["pixels"]["data_offsets"][1]
        digits = header["__metadata__"]["crc32"].encode()
        front = front.replace(b'"crc32":"' + digits, b'"crc32":"' + checksums.ZEROS)
        front = checksums.sealed(front, zlib.crc32(body[pixels:], zlib.crc32(front)))
    path.write_bytes(front + body)


def assert_bad(path, header, body):
    put(path, header, body)
    with pytest.raises(BadFile):
        open_source(path)


def test_no_cut_off_pack_opens(packed, tmp_path):
    data = packed.read_bytes()
    path = tmp_path / "a.safetensors"
    for length in [*range(0, len(data), 401), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(BadFile):
            open_source(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(BadFile, match="too long"):
        open_source(path)
    path.write_bytes(struct.pack("<Q", 2**63) + data[8:])
    with pytest.raises(BadFile):
        open_source(path)


def test_tables_that_do_not_agree(packed, tmp_path):
    header, body = parts_of(packed)
    path = tmp_path / "a.safetensors"
    put(path, header, body)
    assert_same(open_source(path), open_source(packed))
    types = {"offsets": "<i8", "shapes": "<i4", "labels": "<i4", "held_out": "u1"}
    wrong = {
        "offsets": [(0, 1), (1, 0), (3, -1), (3, 2**62), (12, 2**62)],
        "shapes": [(0, 2**31 - 1), (1, -24), (2, 2), (0, 0), (0, 48)],
        "labels": [(0, 3), (0, -2)],
        "held_out": [(0, 2)],
    }
    for name, changes in wrong.items():
        begin, end = header[name]["data_offsets"]
        for place, value in changes:
            array = np.frombuffer(body[begin:end], types[name]).copy()
            array[place] = value
            assert_bad(path, header, body[:begin] + array.tobytes() + body[end:])
    # a product of sides that is right only in 64 bits that overflow
    begin, end = header["shapes"]["data_offsets"]
    shapes = np.frombuffer(body[begin:end], "<i4").copy()
    shapes[:3] = 2**31 - 1, 2**31 - 1, 3
    assert_bad(path, header, body[:begin] + shapes.tobytes() + body[end:])


def test_headers_that_are_wrong(packed, tmp_path):
    header, body = parts_of(packed)
    path = tmp_path / "a.safetensors"
    facts = json.loads(header["__metadata__"]["vq.pack"])

    def with_facts(**changes):
        return header | {"__metadata__": header["__metadata__"] | {"vq.pack": json.dumps(facts | changes)}}

    for changed in (
        b"{}",
        b"[" * 200_000,
        b"\xff\xfe" * 10,
        {name: tensor for name, tensor in header.items() if name != "labels"},
        header | {"more": header["labels"]},
        header | {"__metadata__": {}},
        header | {"__metadata__": {"vq.pack": "["}},
        header | {"labels": header["held_out"]},
        header | {"labels": header["labels"] | {"dtype": "F32"}},
        header | {"labels": header["labels"] | {"shape": [-12]}},
        header | {"labels": header["labels"] | {"shape": [9] * 100_000}},
        header | {"pixels": header["pixels"] | {"data_offsets": [0, 2**70]}},
        header | {"pixels": header["pixels"] | {"data_offsets": [8, header["pixels"]["data_offsets"][1]]}},
        with_facts(format=3),
        with_facts(format=1),
        header | {"__metadata__": {"vq.pack": header["__metadata__"]["vq.pack"]}},
        header | {"__metadata__": {"vq.pack": header["__metadata__"]["vq.pack"], "crc32": "00000000"}},
        {name: tensor for name, tensor in header.items() if name != "crcs"},
        with_facts(pictures=11),
        with_facts(names=facts["names"][1:]),
        with_facts(classes=["ape"]),
        with_facts(classes=[1, 2, 3]),
    ):
        assert_bad(path, changed, body)


def test_a_model_is_not_a_pack(scalar_model):
    with pytest.raises(BadFile, match="is no pack"):
        open_source(scalar_model.info.path)


@pytest.mark.fault("11 packs that rot")
def test_every_flipped_bit_is_noticed(animals, tmp_path):
    """On opening, or when its image is read; other images stay readable."""
    path = tmp_path / "a.safetensors"
    packs.write(open_source(animals), path, size=8)
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    source = random.Random(0)
    bits = [source.randrange(8 * len(data)) for _ in range(120)] + [source.randrange(8 * begin) for _ in range(60)]
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        bad = 0
        try:
            pack = open_source(path)
        except BadFile:
            continue
        for index in range(len(pack.names)):
            try:
                pack.read(index)
            except BadFile as error:
                assert pack.names[index] in str(error)
                bad += 1
        assert bad == 1


@pytest.mark.fault("11 packs that rot")
def test_packs_of_format_1_are_read(packed, tmp_path):
    """They have no checksums."""
    header, body = parts_of(packed)
    facts = json.loads(header["__metadata__"]["vq.pack"]) | {"format": 1}
    begin, end = header.pop("crcs")["data_offsets"]
    header["held_out"]["data_offsets"] = [begin, begin + len(facts["names"])]
    put(
        tmp_path / "a.safetensors", header | {"__metadata__": {"vq.pack": json.dumps(facts)}}, body[:begin] + body[end:]
    )
    assert_same(open_source(tmp_path / "a.safetensors"), open_source(packed))
