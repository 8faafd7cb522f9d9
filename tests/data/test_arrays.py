"""Arrays of .npz files: in the file where they are not compressed, and damage to either is found."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from vqcli.data import arrays
from vqcli.errors import BadFile
from vqcli.files import streams

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., 0], np.asfortranarray(IMAGES)], ids=["rgb", "grey", "fortran"])
def test_images_are_those_of_numpy(tmp_path, monkeypatch, save, images):
    monkeypatch.setattr(streams, "LARGEST_ARRAY", 100)  # so that compressed ones lie in a temporary file
    save(tmp_path / "in.npz", images=images, labels=np.arange(7))
    source = arrays.read_npz(tmp_path / "in.npz")
    assert list(source.labels) == [str(n) for n in range(7)] and len(source.names) == 7
    stored = save is np.savez and not images.flags.f_contiguous
    assert isinstance(source._images[0], arrays.Stored) == stored
    for index, image in enumerate(images):
        assert np.array_equal(source.read(index), np.broadcast_to(image.reshape(5, 4, -1), (5, 4, 3)))


@pytest.mark.fault("21 damaged array")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_found(tmp_path, save):
    path = tmp_path / "in.npz"
    save(path, images=IMAGES)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadFile, match=r"no \.npz file of images"):
        arrays.read_npz(path)


@pytest.mark.fault("21 array that declares more than its bytes can be")
def test_nothing_is_allocated_for_what_cannot_be_there(tmp_path, monkeypatch):
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"shape": (2**20, 32, 32, 3), "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(1000))
    monkeypatch.setattr(arrays, "storage", lambda *of: pytest.fail("3 GB are allocated"))
    with pytest.raises(BadFile, match="not as long as its shape"):
        arrays.read_npz(tmp_path / "in.npz")


@pytest.mark.fault("21 file that is cut off meanwhile")
def test_a_file_that_is_cut_off_while_it_is_read(tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, images=IMAGES)
    source = arrays.read_npz(path)
    with path.open("r+b") as stream:
        stream.truncate(300)
    with pytest.raises(BadFile, match="cut off"):
        source.read(6)
