import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from tests.data.conftest import tar_of
from vqcli.data import packs, split, tars
from vqcli.data.shapes import KINDS, Shapes
from vqcli.data.sources import Joined, open_source, open_sources
from vqcli.errors import BadFile, UsageError
from vqcli.media import image


def png(pixels):
    return image.encode_bytes(pixels, "PNG")


def assert_same(one, other):
    assert list(one.names) == list(other.names)
    assert list(one.labels) == list(other.labels) and list(one.held_out) == list(other.held_out)
    for index in range(len(one.names)):
        assert np.array_equal(one.read(index), other.read(index))


def test_a_folder_of_classes(animals):
    source = open_source(animals)
    assert list(source.names)[:5] == ["ape/00.png", "ape/03.png", "ape/06.png", "ape/09.png", "bee/01.png"]
    assert list(source.labels) == ["ape"] * 4 + ["bee"] * 4 + ["cat"] * 4
    assert source.read(0).shape == (24, 24, 3) and source.read(0).dtype == np.uint8


def test_a_flat_folder_has_no_labels_and_hidden_files_are_left_out(tmp_path, picture):
    for name in ("b.png", "a.png", "._a.png", ".cache/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(picture(8, 8)))
    source = open_source(tmp_path)
    assert list(source.names) == ["a.png", "b.png"] and list(source.labels) == [None, None]


def test_folders_train_and_val_are_the_split():
    names = ["test/ape/0.png", "train/ape/1.png", "train/2.png", "val/bee/wild/3.png"]
    assert split.held_out(names) == [True, False, False, True]
    assert split.labels(names) == ["ape", "ape", None, "bee"]
    only = ["train/ape/1.png", "train/bee/2.png"]
    assert split.labels(only) == ["train", "train"]


def test_a_tar_of_a_folder_is_like_the_folder(animals, tmp_path):
    for top in (".", "animals"):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(animals, top)
        assert_same(open_source(tmp_path / "a.tar"), open_source(animals))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_in_every_kind_of_tar(tmp_path, picture, format):
    names = ["a.png", f"{'folder/' * 18}b.png", f"{'x' * 96}.png"]
    if format != tarfile.USTAR_FORMAT:
        names += [f"{'long' * 60}.png", "grün/ü.png"]
    tar_of([(name, png(picture(8, 8 + n))) for n, name in enumerate(names)], tmp_path / "a.tar", format=format)
    source = open_source(tmp_path / "a.tar")
    assert sorted(source.names) == sorted(names)
    assert [source.read(source.names.index(name)).shape[1] for name in names] == [8 + n for n in range(len(names))]


def test_labels_by_the_webdataset_convention(tmp_path, picture):
    some = png(picture(8, 8))
    members = [("s/0.jpg", some), ("s/0.cls", b"ape\n"), ("s/1.png", some), ("s/1.json", b'{"label": 7, "by": [1]}')]
    members += [("s/2.left.png", some), ("s/2.right.png", some), ("s/2.cls", b"bee"), ("s/3.png", some)]
    members += [("s/3.json", b"[1, 2]"), ("s/4.png", some), ("s/4.json", b"[" * 100_000)]
    source = open_source(tar_of(members, tmp_path / "a.tar"))
    assert dict(zip(source.names, source.labels, strict=True)) == {
        "0.jpg": "ape", "1.png": "7", "2.left.png": "bee", "2.right.png": "bee", "3.png": None, "4.png": None,
    }  # fmt: skip


def test_links_and_odd_members_of_a_tar_are_ignored(tmp_path, picture):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0
            tar.addfile(info)
        for name in ("../../up.png", "/root.png", "esc\x1b[31m.png"):
            info, data = tarfile.TarInfo(name), png(picture(8, 8))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    source = open_source(tmp_path / "a.tar")
    assert list(source.names) == ["esc\\x1b[31m.png", "root.png"]
    assert source.read(1).shape == (8, 8, 3)


def test_no_damaged_tar_opens(tmp_path, picture):
    """Cut off anywhere, or with a wrong byte in a header."""
    members = [("a.png", png(picture(8, 8))), ("b" * 120 + ".png", png(picture(9, 9))), ("c.png", png(picture(8, 9)))]
    whole = tar_of(members, tmp_path / "a.tar", format=tarfile.PAX_FORMAT).read_bytes()
    whole = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 1024]  # one end block
    path = tmp_path / "damaged.tar"
    for length in [*range(0, len(whole) - 511, 211), len(whole) - 512]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile):
            open_source(path)
    for place in range(0, 512, 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadFile, match=r"not a \.tar file"):
            open_source(path)
    for place in range(512, len(whole), 29):  # whatever else happens, it is no other error
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            source = open_source(path)
            for index in range(len(source.names)):
                source.read(index)
        except (BadFile, UsageError):
            pass


def test_sizes_in_a_tar_are_not_believed(tmp_path):
    path = tmp_path / "a.tar"

    def write(header):
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path.write_bytes(bytes(header) + bytes(1024))

    for kind in (b"0", b"x", b"L", b"g"):
        for size in (b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12, b"-0000000010\0"):
            header = bytearray(tarfile.TarInfo("a.png").tobuf())
            header[124:136], header[156:157] = size, kind
            write(header)
            with pytest.raises(BadFile):
                open_source(path)
    for data in (b"9999999 a=b\n", b"0 a=b\n", b"x", b"14 size=-99999\n"[:14], b"16 size=123456\n\n", b"12 size=9e9\n"):
        info = tarfile.TarInfo("a")
        info.type, info.size = tarfile.XHDTYPE, len(data)
        path.write_bytes(info.tobuf() + data.ljust(512, b"\0") + tarfile.TarInfo("b.png").tobuf() + bytes(1024))
        with pytest.raises(BadFile):
            open_source(path)


def test_a_picture_too_large_for_memory_is_one_bad_file(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(tars, "LARGEST_IMAGE", 1000)
    members = [("a.png", png(picture(4, 4))), ("b.png", bytes(1001))]
    source = open_source(tar_of(members, tmp_path / "a.tar"))
    assert source.read(0).shape == (4, 4, 3)
    with pytest.raises(BadFile, match=r"b\.png is too large"):
        source.read(1)


def test_npz_has_the_same_pixels_and_labels(animals, tmp_path):
    folder = open_source(animals)
    images = np.stack([folder.read(index) for index in range(12)])
    numbers = np.array([["ape", "bee", "cat"].index(label) for label in folder.labels])
    for labels in (
        {"labels": np.array(folder.labels)},
        {"labels": np.array(folder.labels).astype("S")},
        {"labels": numbers[:, None], "classes": np.array(["ape", "bee", "cat"])},
    ):
        for save, order in ((np.savez, "C"), (np.savez_compressed, "F")):
            save(tmp_path / "a.npz", images=np.asarray(images, order=order), **labels)
            source = open_source(tmp_path / "a.npz")
            assert list(source.labels) == list(folder.labels) and len(source.names) == 12
            assert np.array_equal(np.stack([source.read(index) for index in range(12)]), images)
    np.savez(tmp_path / "a.npz", images=images[..., 0], labels=numbers)
    source = open_source(tmp_path / "a.npz")
    assert source.read(3).shape == (24, 24, 3) and source.labels[11] == "2"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "no array called images"),
        ({"images": np.zeros((2, 4, 4), np.float32)}, "type float32"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, r"uint8 \[2, 3, 4, 4\]"),
        ({"images": np.array([{}, {}])}, "type object"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([{}, {}])}, "type object"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, r"labels \[3\]"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.ones(2, int), "classes": np.array(["a"])}, "1 classes"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "0 bytes"),
    ],
)
def test_npz_of_something_else(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadFile, match=says):
        open_source(tmp_path / "a.npz")


def test_npz_in_two_parts(tmp_path):
    draw = np.random.default_rng(0)
    arrays = {"x_train": draw.integers(256, size=(5, 6, 4), dtype=np.uint8), "y_train": np.array([0, 1, 2, 1, 0])}
    arrays |= {"x_test": draw.integers(256, size=(2, 8, 8, 3), dtype=np.uint8), "y_test": np.array([[2], [0]])}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    source = open_source(path)
    assert source.names == [f"train/{n:06d}" for n in range(5)] + ["val/000000", "val/000001"]
    assert source.labels == ["0", "1", "2", "1", "0", "2", "0"] and source.held_out == [False] * 5 + [True] * 2
    assert np.array_equal(source.read(4), np.stack([arrays["x_train"][4]] * 3, -1))
    assert np.array_equal(source.read(6), arrays["x_test"][1])
    np.savez(path, classes=np.array(["ape", "bee", "cat"]), **arrays)
    assert open_source(path).labels == ["ape", "bee", "cat", "bee", "ape", "cat", "ape"]
    np.savez(path, x_test=arrays["x_test"])
    source = open_source(path)
    assert source.names == ["000000", "000001"] and source.labels == [None, None]
    np.savez(path, images=arrays["x_test"], x_train=arrays["x_train"])
    assert len(open_source(path).names) == 2
    for wrong, says in [
        ({"y_test": arrays["y_test"], "x_train": arrays["x_train"]}, "it has y_test, but no array called x_test"),
        (arrays | {"y_train": np.zeros(6, int)}, r"5 images, labels \[6\]"),
        (arrays | {"y_test": np.array([0, 3]), "classes": np.array(["ape", "bee", "cat"])}, "0 to 3, but 3 classes"),
        (arrays | {"x_test": np.zeros((2, 8, 8), np.float32)}, "x_test has the type float32"),
    ]:
        np.savez(path, **wrong)
        with pytest.raises(BadFile, match=says) as raised:
            open_source(path)
        assert "images" in raised.value.hint and "x_train" in raised.value.hint


def test_hostile_npz(tmp_path):
    np.savez_compressed(tmp_path / "good.npz", images=np.zeros((2, 4, 4), np.uint8))
    good, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "a.npz"
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(BadFile):
            open_source(path)
    headers = ["(1000000, 100, 100)", "(2, 4, 5)", "(2, -4, -4)", "(2, 4, 3)", "(9" + "9" * 4000 + ", 4, 4)", "(" * 500]
    for shape in headers:
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(32))
        with pytest.raises(BadFile):
            open_source(path)


def test_several_paths_are_joined(animals, tmp_path, picture):
    (tmp_path / animals.name / "ape").mkdir(parents=True)
    image.write(tmp_path / animals.name / "ape" / "00.png", picture(8, 8))
    packs.write(open_source(animals), tmp_path / "a.safetensors")
    paths = [animals, tmp_path / animals.name, tmp_path / "a.safetensors"]
    source = open_sources(paths)
    assert isinstance(source, Joined)
    assert len(set(source.names)) == len(source.names) == 25
    assert source.names[0] == f"{animals.name}/ape/00.png"
    assert list(source.names[12:14]) == [f"{animals.name}-2/ape/00.png", "a.safetensors/ape/00.png"]
    assert source.read(12).shape == (8, 8, 3) and source.labels[12] == "ape"
    assert np.array_equal(source.read(24), source.read(11))
    assert list(source.held_out[:12]) == list(open_source(animals).held_out)
    assert list(source.held_out[13:]) == list(open_source(animals).held_out)


def test_what_is_no_source(animals, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("a.tar.gz", "a.zip", "a.png"):
        (tmp_path / name).write_bytes(b"")
    for paths, says in [
        ([tmp_path / "none"], "no file or folder"),
        ([tmp_path / "empty"], "no images in"),
        ([tar_of([("a.txt", b"")], tmp_path / "a.tar")], "no images in"),
        ([tmp_path / "a.tar.gz"], "compressed"),
        ([tmp_path / "a.zip"], "no data to train on"),
        ([tmp_path / "a.png"], "no data to train on"),
        ([animals, animals / "ape"], "lies in"),
        ([animals, animals / ".." / animals.name], "named twice"),
        ([], "no data"),
    ]:
        with pytest.raises(UsageError, match=says) as raised:
            open_sources(paths)
        assert raised.value.hint


def test_names_with_broken_bytes(tmp_path, picture):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(png(picture(8, 8)))
    source = open_source(tmp_path)
    assert list(source.names) == ["\\udcff.png"] and source.read(0).shape == (8, 8, 3)


def test_made_shapes():
    one, other = Shapes(30, 24, seed=1), Shapes(30, 24, seed=1)
    assert_same(one, other)
    assert set(one.labels) == set(KINDS) and len(set(one.names)) == 30
    assert one.read(0).shape == (24, 24, 3) and one.read(0).std() > 5
    assert not np.array_equal(one.read(0), Shapes(30, 24, seed=2).read(0))


def test_imagenet_classes_go_by_their_names(tmp_path, picture):
    for number in ("n02119789", "n02012849", "n03126707", "other"):
        (tmp_path / "train" / number).mkdir(parents=True)
        image.write(tmp_path / "train" / number / "1.png", picture(8, 8))
    lines = ["n02119789 kit fox, Vulpes macrotis", "n02012849 crane", "n03126707 crane", "nonsense"]
    (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    expected = ["crane_n02012849", "kit_fox", "crane_n03126707", "other"]
    assert list(open_source(tmp_path / "train").labels) == expected
