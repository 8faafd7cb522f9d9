"""BMPs with masks: those that Pillow reads, and those that it does not."""

import io
import struct

import numpy as np
import pytest

from vqcli.errors import BadFile
from vqcli.media import image

RGBA = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
ORDERS = {"BGRA": (2, 1, 0, 3), "RGBA": (0, 1, 2, 3), "ARGB": (3, 0, 1, 2), "ABGR": (3, 2, 1, 0)}


def bmp(stored, masks, header=124, compression=3, upright=False):
    """Pixels, little-endian integers [H, W], with masks of red, green, blue and perhaps alpha."""
    H, W = stored.shape
    rows = (stored if upright else stored[::-1]).astype(f"<u{stored.itemsize}").tobytes()
    if W * stored.itemsize % 4:
        padding = bytes(-W * stored.itemsize % 4)
        rows = b"".join(
            rows[at : at + W * stored.itemsize] + padding for at in range(0, len(rows), W * stored.itemsize)
        )
    info = struct.pack(
        "<IiiHHIIiiII", header, W, -H if upright else H, 1, 8 * stored.itemsize, compression, 0, 0, 0, 0, 0
    )
    front = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + len(front) + len(rows), 0, 0, 14 + len(front)) + front + rows


def stored_as(order):
    planes = [int(np.flatnonzero(np.array(ORDERS[order]) == channel)[0]) for channel in range(4)]
    whole = sum(RGBA[..., channel].astype(np.uint32) << (8 * place) for channel, place in enumerate(planes))
    return whole, [0xFF << (8 * place) for place in planes]


def over_white(rgba):
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.fault("01 alpha of BMP")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("header", "compression"), [(108, 3), (124, 3), (40, 6), (56, 3)])
def test_alpha_wherever_it_lies(order, header, compression):
    stored, masks = stored_as(order)
    for upright in (False, True):
        made = image.read(io.BytesIO(bmp(stored, masks, header, compression, upright)))
        assert made.notes == ("alpha composited over white",)
        assert np.abs(made.pixels - over_white(RGBA)).max() <= 1


@pytest.mark.fault("01 alpha of BMP")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("header", [40, 52])
def test_without_a_mask_there_is_no_alpha(order, header):
    stored, masks = stored_as(order)
    made = image.read(io.BytesIO(bmp(stored, masks[:3], header)))
    assert np.array_equal(made.pixels, RGBA[..., :3]) and made.notes == ()


def test_few_bits():
    values = np.array([[0, 0xF000, 0x0F00, 0x00F0, 0xFFF0]], np.uint16)
    made = image.read(io.BytesIO(bmp(values, [0xF000, 0x0F00, 0x00F0])))
    assert made.pixels[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]


def test_damage_is_an_error_of_vq():
    stored, masks = stored_as("ARGB")
    whole, source = bmp(stored, masks), np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(whole[: source.integers(2, len(whole) + 1)])
        for at in source.integers(2, len(damaged) + 1, 2):
            damaged[min(at, len(damaged) - 1)] = source.integers(256)
        try:
            image.read(io.BytesIO(bytes(damaged)), max_pixels=2**16)
        except BadFile:
            pass
