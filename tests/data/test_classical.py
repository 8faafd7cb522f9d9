import gzip
import os
import pickle
import struct
import zlib

import numpy as np
import pytest

from vqcli.data import classical, packs
from vqcli.data.dataset import Dataset
from vqcli.data.sources import open_source, open_sources
from vqcli.errors import BadFile, UsageError
from vqcli.files import streams

PARTS = {"train": 7, "t10k": 3}
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, *, mark="-", zipped=False, parts=PARTS):
    """A folder like MNIST's. Returns the images uint8 [N, 6, 5] and labels of each part."""
    folder.mkdir(exist_ok=True)
    draw, made = np.random.default_rng(0), {}
    for part, count in parts.items():
        images = draw.integers(256, size=(count, 6, 5), dtype=np.uint8)
        labels = draw.integers(10, size=count, dtype=np.uint8)
        made[part] = images, labels
        for kind, array in (("images", images), ("labels", labels)):
            name = f"{part}-{kind}{mark}idx{array.ndim}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return made


def write_cifar(folder, *, label_bytes=1, classes=10, files=classical.CIFAR10):
    """A folder like CIFAR's binary version, 4 records a file. Returns images [N, 32, 32, 3] and labels of each part."""
    folder.mkdir(exist_ok=True)
    draw, made = np.random.default_rng(1), {}
    for part, names in (("train", files.train), ("val", (files.test,))):
        images = draw.integers(256, size=(4 * len(names), 32, 32, 3), dtype=np.uint8)
        labels = draw.integers(classes, size=(4 * len(names), label_bytes), dtype=np.uint8)
        made[part] = images, labels[:, -1]
        records = np.concatenate([labels, images.transpose(0, 3, 1, 2).reshape(len(images), -1)], axis=1)
        for number, name in enumerate(names):
            (folder / name).write_bytes(records[4 * number : 4 * number + 4].tobytes())
    return made


def assert_holds(source, parts, names=None):
    """The source has these images and labels: those to train on, then those held out."""
    images = [image for part, _ in parts for image in part]
    labels = [int(label) for _, part in parts for label in part]
    assert list(source.labels) == [names[label] if names else str(label) for label in labels]
    assert source.decoded and source.stride == 1 and len(source.names) == len(images)
    for index, image in enumerate(images):
        pixels = source.read(index)
        assert pixels.shape == (*image.shape[:2], 3) and pixels.dtype == np.uint8
        assert np.array_equal(pixels, image if image.ndim == 3 else np.stack([image] * 3, -1))


@pytest.mark.fault("21 file that is cut off meanwhile")
@pytest.mark.parametrize("write", [write_idx, write_cifar])
def test_images_stay_in_the_files(tmp_path, write):
    """Those of a file that is cut off while it is read are a BadFile, the others are there."""
    made = write(tmp_path)
    source = open_source(tmp_path)
    assert all(isinstance(images, classical.Stored | classical.Planes) for images in source._images)
    last = sorted(path for path in tmp_path.iterdir() if path.name.startswith(("test_batch", "t10k-images")))[0]
    os.truncate(last, last.stat().st_size - 1)
    with pytest.raises(BadFile, match="is cut off"):
        source.read(len(source.names) - 1)
    images, _ = list(made.values())[-1]
    expected = images[-2].reshape(*images.shape[1:3], -1)
    assert np.array_equal(source.read(len(source.names) - 2), np.broadcast_to(expected, (*expected.shape[:2], 3)))


@pytest.mark.fault("21 large data set in gzipped files")
def test_gzipped_images_of_a_large_set_lie_in_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_ARRAY", 50)
    made = write_idx(tmp_path, zipped=True)
    source = open_source(tmp_path)
    assert_holds(source, made.values())
    assert all(isinstance(images, np.memmap) for images in source._images)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_idx_files_have_their_own_split(tmp_path, mark, zipped):
    made = write_idx(tmp_path, mark=mark, zipped=zipped)
    source = open_source(tmp_path)
    assert_holds(source, made.values())
    assert source.names == [f"train/{n:06d}" for n in range(7)] + [f"val/{n:06d}" for n in range(3)]
    assert source.held_out == [False] * 7 + [True] * 3
    trained, held = (Dataset([tmp_path], held_out=half) for half in (False, True))
    assert (len(trained), len(held)) == (7, 3) and trained.classes == held.classes


def test_one_part_of_idx_files_is_like_any_other_pictures(tmp_path):
    made = write_idx(tmp_path, parts={"t10k": 120})
    source = open_source(tmp_path)
    assert_holds(source, made.values())
    assert source.names[:2] == ["000000", "000001"] and 0 < sum(source.held_out) < 20
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert open_source(tmp_path).labels == [None] * 120


def test_a_file_of_a_data_set_stands_for_its_folder(tmp_path):
    write_idx(tmp_path / "m", zipped=True)
    write_cifar(tmp_path / "c")
    assert len(open_source(tmp_path / "m" / "train-images-idx3-ubyte.gz").names) == 10
    assert len(open_source(tmp_path / "c" / "test_batch.bin").names) == 24
    both = open_sources([tmp_path / "m" / "train-images-idx3-ubyte.gz", tmp_path / "c"])
    assert both.names[0] == "m/train/000000" and both.names[-1] == "c/val/000003" and sum(both.held_out) == 3 + 4
    with pytest.raises(UsageError, match="no file or folder"):
        open_source(tmp_path / "c" / "train-images-idx3-ubyte")
    with pytest.raises(UsageError, match="named twice"):
        open_sources([tmp_path / "m" / name for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")])


def test_the_split_survives_packing(tmp_path):
    write_idx(tmp_path / "m")
    source = open_source(tmp_path / "m")
    packs.write(source, tmp_path / "m.safetensors")
    packed = open_source(tmp_path / "m.safetensors")
    assert list(packed.names) == source.names and list(packed.held_out) == source.held_out
    assert list(packed.labels) == source.labels and np.array_equal(packed.read(9), source.read(9))


@pytest.mark.parametrize("known", PARTS)
def test_fashion_mnist_is_known_by_its_labels(tmp_path, monkeypatch, known):
    made = write_idx(tmp_path, zipped=True)
    monkeypatch.setattr(classical, "FASHION_CRC32", {zlib.crc32(made[known][1].tobytes())})
    assert_holds(open_source(tmp_path), made.values(), classical.FASHION)
    assert len(set(classical.FASHION)) == 10
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    assert_holds(open_source(tmp_path), made.values(), NAMES)


def test_classes_are_named_by_a_file(tmp_path):
    made = write_idx(tmp_path)
    (tmp_path / "classes.txt").write_bytes("\r\n".join([*NAMES[:9], "esc\x1b", "spare\n\n"]).encode())
    assert_holds(open_source(tmp_path), made.values(), [*NAMES[:9], "esc\\x1b"])
    largest = max(label for _, labels in made.values() for label in labels)
    for text, says in [
        ("\n".join(NAMES[:largest]), f"labels from . to {largest}, but {largest} classes"),
        ("a\n\nb", "classes.txt is no list of names"),
        ("a\nb\na", "classes.txt is no list of names"),
        ("", "classes.txt is no list of names"),
        ("a" * 2**20 + "\nb", "classes.txt is no list of names"),
    ]:
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(BadFile, match=says) as raised:
            open_source(tmp_path)
        assert raised.value.hint


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("train-images-idx3-ubyte", idx(np.zeros((7, 6, 5), np.uint8))[:-1], "truncated: it declares 7 x 6 x 5 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros((7, 6, 5), np.uint8)) + b"x", "longer than the 7 x 6 x 5 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros((8, 6, 5), np.uint8)), "7 labels for the 8 images"),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 6, 5), np.uint8)), "declares 0 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros(7, np.uint8)), "idx file of images: it begins with 0x00000801, not"),
        ("train-images-idx3-ubyte", b"<html>not found</html>", "idx file of images: it begins with 0x3c68746d"),
        ("train-images-idx3-ubyte", struct.pack(">3I", 0x0803, 7, 6), "truncated: 12 bytes are no header"),
        ("train-images-idx3-ubyte", b"", "truncated: 0 bytes are no header"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x0803, *[2**32 - 1] * 3) + bytes(9), "declares 7922816"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x0803, 2**16, 2**8, 2**8) + bytes(9), "truncated"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros((3, 1, 1), np.uint8)), "idx file of labels: it begins with 0x00000803"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(2, np.uint8)), "2 labels for the 3 images"),
    ],
)
def test_hostile_idx_files(tmp_path, name, data, says, zipped):
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(BadFile, match=says) as raised:
        open_source(tmp_path)
    assert name in str(raised.value) and raised.value.hint


def test_no_more_is_read_than_is_declared(tmp_path):
    """A small .gz that unpacks to much, and a small one that declares much."""
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    bomb = gzip.compress(idx(np.zeros((7, 6, 5), np.uint8)) + bytes(10**7))
    path.write_bytes(bomb)
    with pytest.raises(BadFile, match="longer than"):
        open_source(tmp_path)
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x0803, 2**10, 2**10, 2**11)))
    with pytest.raises(BadFile, match="truncated"):
        open_source(tmp_path)


def test_damaged_gzip(tmp_path):
    made = write_idx(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile, match="train-images-idx3-ubyte"):
            open_source(tmp_path)
    for place in range(0, len(whole), 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:  # the date and the name in the header have no checksum
            assert_holds(open_source(tmp_path), made.values())
        except BadFile:
            pass
    path.write_bytes(gzip.decompress(whole))  # unpacked, the name left as it was
    assert_holds(open_source(tmp_path), made.values())


def test_missing_files_are_named(tmp_path):
    write_idx(tmp_path / "m")
    (tmp_path / "m" / "train-images-idx3-ubyte").unlink()
    write_cifar(tmp_path / "c")
    (tmp_path / "c" / "data_batch_3.bin").unlink()
    for folder, missing in (("m", "train-images-idx3-ubyte"), ("c", "data_batch_3.bin")):
        with pytest.raises(BadFile, match=f"{missing} is missing") as raised:
            open_source(tmp_path / folder)
        assert raised.value.hint


def test_folders_of_the_same_names_are_no_data_set(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    (tmp_path / "data_batch_1").mkdir()
    with pytest.raises(UsageError, match="no images in"):
        open_source(tmp_path)


def test_cifar_10_in_its_binary_version(tmp_path):
    made = write_cifar(tmp_path)
    assert_holds(open_source(tmp_path), made.values())
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    source = open_source(tmp_path)
    assert_holds(source, made.values(), NAMES)
    assert source.names[19:21] == ["train/000019", "val/000000"] and sum(source.held_out) == 4
    (tmp_path / "classes.txt").write_text("\n".join(NAMES[::-1]))
    assert_holds(open_source(tmp_path), made.values(), NAMES[::-1])
    (tmp_path / "test_batch.bin").unlink()
    assert_holds(open_source(tmp_path), [made["train"]], NAMES[::-1])
    write_cifar(tmp_path)
    for name in classical.CIFAR10.train:
        (tmp_path / name).unlink()
    source = open_source(tmp_path)
    assert_holds(source, [made["val"]], NAMES[::-1])
    assert source.names[0] == "000000"


def test_cifar_100_has_fine_labels(tmp_path):
    made = write_cifar(tmp_path, label_bytes=2, classes=100, files=classical.CIFAR100)
    with pytest.raises(UsageError, match="no images in"):  # just two files called .bin
        open_source(tmp_path)
    names = [f"fine_{number}" for number in range(100)]
    (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    assert_holds(open_source(tmp_path), made.values(), names)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (bytes(3072), "truncated"),
        (b"", "truncated"),
        (bytes([10]) + bytes(3072), "labels from 0 to 10, but 10 classes"),
    ],
)
def test_hostile_cifar(tmp_path, data, says):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(data)
    with pytest.raises(BadFile, match=says) as raised:
        open_source(tmp_path)
    assert raised.value.hint


@pytest.mark.parametrize("names", [["data_batch_1", "batches.meta"], ["test_batch"], ["train", "test", "meta"]])
def test_pickles_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(pickle.dumps({"data": b""}))
    with pytest.raises(BadFile, match="pickles, which could run any code") as raised:
        open_source(tmp_path)
    assert "cifar-10-binary" in raised.value.hint and ".npz" in raised.value.hint
    if names[0] == "data_batch_1":
        write_cifar(tmp_path)
        assert len(open_source(tmp_path).names) == 24
