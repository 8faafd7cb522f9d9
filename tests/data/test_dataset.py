import itertools
import os

import numpy as np
import pytest

from tests.data.conftest import tar_of
from tests.data.test_sources import png
from vqcli.data import packs, split
from vqcli.data.crops import centre_crop, random_crop
from vqcli.data.dataset import Dataset, permutation
from vqcli.data.shapes import KINDS, Shapes
from vqcli.data.sources import open_source
from vqcli.errors import BadFile, UsageError
from vqcli.media import image
from vqcli.recipe import Data

PLAIN = Data(crop=16, batch=6)


@pytest.fixture(scope="module")
def shapes():
    return Dataset(Shapes(200, 20), held_out=False)


def assert_equal(one, other):
    assert np.array_equal(one.pixels, other.pixels) and np.array_equal(one.labels, other.labels)


def test_the_split_is_stable_and_disjoint(animals, picture, tmp_path):
    source = Shapes(2000)
    trained, held = (Dataset(source, held_out=half) for half in (False, True))
    assert set(trained.names).isdisjoint(held.names) and len(trained) + len(held) == 2000
    assert 20 < len(held) < 60
    assert held.names == [name for name in source.names if split.is_held_out(name)]
    assert trained.classes == held.classes == KINDS
    # written down, since a changed rule would let old runs judge themselves by what they learned
    assert [n for n in range(200) if split.is_held_out(f"{n}.png")] == [68, 124, 187, 192]


def test_train_and_val(animals, tmp_path):
    for path in animals.rglob("*.png"):
        half = "val" if path.parent.name == "cat" else "train"
        target = tmp_path / half / path.relative_to(animals)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    trained, held = (Dataset([tmp_path], held_out=half) for half in (False, True))
    assert trained.classes == held.classes == ("ape", "bee", "cat")
    assert set(trained.labels) == {0, 1} and set(held.labels) == {2}
    assert [name.split("/")[:2] for name in held.names] == [["val", "cat"]] * 4


def test_an_epoch_shows_each_picture_once(shapes):
    count = len(shapes)
    for epoch in (0, 1, 7):
        assert sorted(permutation(count, 3, epoch)) == list(range(count))
    assert not np.array_equal(permutation(count, 3, 0), permutation(count, 3, 1))
    assert not np.array_equal(permutation(count, 3, 0), permutation(count, 4, 0))
    assert permutation(8, -1, 0).tolist() == permutation(8, 2**64 - 1, 0).tolist()
    whole = Data(crop=20, batch=count, flip=False)
    seen = sorted(crop.tobytes() for crop in shapes.batch(whole, 3, 2 * count, count).pixels)
    assert seen == sorted(shapes.pixels(index).tobytes() for index in range(count))


def test_an_item_is_the_same_whoever_makes_it(shapes):
    straight = list(itertools.islice(shapes.batches(Data(crop=16, batch=12), 5, 2, workers=3), 4))
    halves = [shapes.batches(PLAIN, 5, 2, rank=rank, world=2, workers=1 + rank, prefetch=1) for rank in (0, 1)]
    for batch in straight:
        first, second = (next(half) for half in halves)
        assert np.array_equal(batch.pixels, np.concatenate([first.pixels, second.pixels]))
        assert np.array_equal(batch.labels, np.concatenate([first.labels, second.labels]))
    assert_equal(straight[1], shapes.batch(PLAIN, 5, 36, 12))
    fresh = Dataset(Shapes(200, 20), held_out=False, cache_bytes=0)
    pixels, label = fresh.item(PLAIN, 5, 41)
    assert np.array_equal(pixels, straight[1].pixels[5]) and label == straight[1].labels[5]
    assert not np.array_equal(shapes.batch(PLAIN, 6, 36, 12).pixels, straight[1].pixels)
    assert straight[0].pixels.dtype == np.uint8 and straight[0].labels.dtype == np.int64
    for half in halves:
        half.close()


def test_closing_stops_the_workers(shapes):
    begun = []

    class Slow(Shapes):
        def read(self, index):
            begun.append(index)
            return super().read(index)

    batches = Dataset(Slow(200, 20), held_out=False).batches(PLAIN, 0, 0, workers=1, prefetch=2)
    next(batches)
    batches.close()
    assert 6 <= len(begun) <= 5 * 6
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("kind", ["tar", "npz", "pack"])
def test_every_source_gives_the_same_batches(animals, tmp_path, kind):
    folder = open_source(animals)
    if kind == "tar":
        path = tmp_path / "a.tar"
        tar_of([(name, (animals / name).read_bytes()) for name in folder.names], path)
    elif kind == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, images=np.stack([folder.read(i) for i in range(12)]), labels=np.array(folder.labels))
    else:
        path = tmp_path / "a.safetensors"
        packs.write(folder, path)
    other = open_source(path)
    folder.held_out = other.held_out = [False] * 12  # whatever the names: of these it is about the pixels
    one, two = Dataset(folder, held_out=False), Dataset(other, held_out=False)
    assert one.classes == two.classes == ("ape", "bee", "cat")
    assert_equal(one.batch(PLAIN, 0, 7, 20), two.batch(PLAIN, 0, 7, 20))
    assert_equal(one.held_out_batch(PLAIN, 5), two.held_out_batch(PLAIN, 5))


def test_unusable_pictures_are_listed_and_replaced(animals, tmp_path, picture):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(picture(20, 20)))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "small.png").write_bytes(png(picture(15, 40)))
    dataset = Dataset([tmp_path], held_out=False)
    batch = dataset.batch(PLAIN, 0, 0, 30)
    assert len(batch) == 30 and set(batch.labels) == {-1} and dataset.classes == ()
    assert list(dataset.skipped) == ["broken.png"] and "broken.png" in dataset.skipped["broken.png"]
    assert dataset.too_small == {"small.png": "40 x 15 pixels, 16 are needed"}
    assert len(dataset.held_out_batch(PLAIN, 30)) == 4
    with pytest.raises(BadFile):
        dataset.pixels(dataset.names.index("broken.png"))
    # what was drawn before does not decide what replaces a picture
    assert_equal(Dataset([tmp_path], held_out=False).batch(PLAIN, 0, 20, 10), dataset.batch(PLAIN, 0, 20, 10))


def test_data_that_cannot_be_trained_on(tmp_path, picture):
    (tmp_path / "small.png").write_bytes(png(picture(8, 8)))
    dataset = Dataset([tmp_path], held_out=False)
    for attempt in (
        lambda: dataset.batch(PLAIN, 0, 0, 1),
        lambda: dataset.held_out_batch(PLAIN, 1),
        lambda: next(dataset.batches(PLAIN, 0, 0)),
    ):
        with pytest.raises(UsageError, match="smaller than 16 pixels"):
            attempt()
    with pytest.raises(UsageError, match="no images of 1 are held out"):
        Dataset([tmp_path], held_out=True)
    with pytest.raises(UsageError, match=r"data\.size 8 is smaller than data\.crop 16"):
        dataset.batch(Data(crop=16, size=8), 0, 0, 1)


def test_size_resizes_whole_pictures_up_and_down(tmp_path, picture):
    for name, shape in {"a": (8, 12), "b": (64, 90), "c": (500, 3), "d": (1, 1)}.items():
        (tmp_path / f"{name}.png").write_bytes(png(picture(*shape)))
    dataset, data = Dataset([tmp_path], held_out=False), Data(crop=16, size=16, batch=40)
    assert dataset.batch(data, 0, 0, 40).pixels.shape == (40, 16, 16, 3)
    assert len(dataset.held_out_batch(data, 9)) == 4 and not dataset.too_small


def test_the_middle_is_undistorted():
    """The picture's middle square, as Pillow reduces it whole."""
    from PIL import Image

    rows, columns = np.mgrid[:60, :90]
    pixels = np.stack([4 * rows, 2 * columns, 2 * rows + columns], -1).astype(np.uint8)
    whole = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(centre_crop(pixels, Data(crop=20, size=20)), whole[:, 5:25])
    assert np.array_equal(centre_crop(pixels, Data(crop=10)), pixels[25:35, 40:50])


def test_what_a_random_crop_may_do():
    import random

    rows, columns = np.mgrid[:40, :60]
    pixels = np.stack([4 * rows, 4 * columns, 0 * rows], -1).astype(np.uint8)

    def crops(**options):
        return [random_crop(pixels, Data(crop=20, **options), random.Random(n)) for n in range(60)]

    plain = crops(flip=False)
    assert {tuple(np.diff(crop[:, 0, 0])) for crop in plain} == {(4,) * 19}  # cut, not resized
    for channel, last in ((0, 20), (1, 40)):
        starts = {int(crop[0, 0, channel]) // 4 for crop in plain}
        assert min(starts) <= 3 and last - 3 <= max(starts) <= last
    flipped = crops()
    assert 10 < sum(int(crop[0, 0, 1]) > int(crop[0, -1, 1]) for crop in flipped) < 50
    shrunk = [int(crop[15, 0, 0]) - int(crop[5, 0, 0]) for crop in crops(shrink=0.5)]  # 40 where nothing is reduced
    assert min(shrunk) >= 38 and max(shrunk) > 60 and 15 < shrunk.count(40) < 45
    assert max(shrunk) <= 82
    for crop in crops(size=20, flip=False):  # the shorter side of 40 becomes 20 to 23
        assert 68 <= int(crop[15, 0, 0]) - int(crop[5, 0, 0]) <= 82


def test_memory_holds_what_fits(animals):
    reads = []
    source = open_source(animals)
    source.held_out = [False] * 12
    read = source.read
    source.read = lambda index: reads.append(index) or read(index)
    dataset = Dataset(source, held_out=False, cache_bytes=5 * 24 * 24 * 3)
    for _ in range(3):
        for index in range(12):
            assert (dataset.pixels(index) == image.read(animals / dataset.names[index]).pixels).all()
    assert len(reads) == 12 + 7 + 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs another process")
def test_another_process_makes_the_same(shapes):
    import subprocess
    import sys

    code = (
        "import hashlib; from vqcli.data.dataset import Dataset; from vqcli.data.shapes import Shapes\n"
        "from vqcli.recipe import Data\n"
        "batch = Dataset(Shapes(200, 20), held_out=False).batch(Data(crop=16), 9, 1000, 8)\n"
        "print(hashlib.sha256(batch.pixels.tobytes()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    import hashlib

    own = hashlib.sha256(shapes.batch(Data(crop=16), 9, 1000, 8).pixels.tobytes()).hexdigest()
    assert done.stdout.strip() == own
