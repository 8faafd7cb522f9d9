"""TIFFs of all sample formats and layouts, written here byte by byte, come back as the pixels they were made of."""

import io
import struct
import zlib

import numpy as np
import pytest

from vqcli import api
from vqcli.errors import BadFile
from vqcli.media import image

GREY = ((np.add.outer(3 * np.arange(24), 5 * np.arange(40)) % 256).astype(np.uint8))[..., None]  # [24, 40, 1], 0 to 255
RGB = np.concatenate([GREY, GREY[::-1], GREY[:, ::-1]], -1)
FORMATS = {"u": 1, "i": 2, "f": 3}
DEFLATE = 8


def tiff(values, *, photometric=None, planar=False, order="<", compression=1, predictor=1, rows=7, tile=None, bits=None,
         fill_order=1, extra=()):  # fmt: skip
    """A file of samples [H, W, C], in strips of `rows` or in square tiles of the side `tile`."""
    H, W, C = values.shape
    pad = 0 if tile is None else 1
    height, width = (rows, W) if tile is None else (tile, tile)
    padded = np.pad(values, ((0, -H % height * pad), (0, -W % width * pad), (0, 0)))
    cells = [
        plane[y : y + height, x : x + width]
        for plane in (np.split(padded, C, -1) if planar else [padded])
        for y in range(0, len(padded), height)
        for x in range(0, padded.shape[1], width)
    ]
    stored = [_cell(cell, order, predictor, bits) for cell in cells]
    if fill_order == 2:
        stored = [
            np.packbits(np.unpackbits(np.frombuffer(c, np.uint8).reshape(-1, 1), 1)[:, ::-1], 1).tobytes()
            for c in stored
        ]
    if compression == DEFLATE:
        stored = [zlib.compress(cell) for cell in stored]
    sizes = [len(cell) for cell in stored]
    begins = [8 + sum(sizes[:number]) for number in range(len(sizes))]
    tags = {
        256: [W], 257: [H], 258: [bits or 8 * values.itemsize] * C, 259: [compression],
        262: [{1: 1, 2: 1}.get(C - len(extra), 2) if photometric is None else photometric], 266: [fill_order], 277: [C],
        284: [2 if planar else 1], 317: [predictor], 339: [FORMATS[values.dtype.kind]] * C,
        **({273: begins, 278: [rows], 279: sizes} if tile is None else {}),
        **({322: [tile], 323: [tile], 324: begins, 325: sizes} if tile else {}),
        **({338: list(extra)} if extra else {}),
    }  # fmt: skip
    begin = 8 + sum(sizes)
    entries, beyond = b"", b""
    for tag in sorted(tags):
        numbers = struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])
        at = struct.pack(f"{order}I", begin + 6 + 12 * len(tags) + len(beyond))
        entries += struct.pack(f"{order}HHI", tag, 4, len(tags[tag])) + (numbers if len(numbers) == 4 else at)
        beyond += numbers if len(numbers) > 4 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", begin)
    return head + b"".join(stored) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond


def _cell(cell, order, predictor, bits):
    if bits:
        flags = np.unpackbits(cell.astype(">u2").view(np.uint8).reshape(*cell.shape, 2), axis=-1)[..., 16 - bits :]
        return np.packbits(flags.reshape(len(cell), -1), axis=1).tobytes()
    size = cell.itemsize
    if predictor == 3:
        planes = cell.astype(f">f{size}").view(np.uint8).reshape(len(cell), -1, size).transpose(0, 2, 1)
        planes = planes.reshape(len(cell), -1, cell.shape[2])
        return np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes()
    whole = np.ascontiguousarray(cell).view(f"u{size}")
    if predictor == 2:
        whole = np.diff(whole, axis=1, prepend=whole.dtype.type(0))
    return whole.astype(f"{order}u{size}").tobytes()


def as_64_bit(data):
    """A big-endian file with 64-bit offsets."""
    begin = struct.unpack(">I", data[4:8])[0]
    count = struct.unpack(">H", data[begin : begin + 2])[0]
    entries, beyond = b"", b""
    for tag, _, n, value in struct.iter_unpack(">HHI4s", data[begin + 2 : begin + 2 + 12 * count]):
        at = struct.unpack(">I", value)[0]
        numbers = struct.unpack(f">{n}I", value if n == 1 else data[at : at + 4 * n])
        wide = struct.pack(f">{n}Q", *(number + 8 * (tag in (273, 324)) for number in numbers))
        after = struct.pack(">Q", 8 + begin + 8 + 20 * count + 8 + len(beyond))
        entries += struct.pack(">HHQ", tag, 16, n) + (wide if n == 1 else after)
        beyond += wide if n > 1 else b""
    head = b"MM\0+\0\x08\0\0" + struct.pack(">Q", begin + 8)
    return head + data[8:begin] + struct.pack(">Q", count) + entries + bytes(8) + beyond


def deep(pixels, kind):
    """8-bit pixels at the same place of the range of a type."""
    kind = np.dtype(kind)
    if kind.kind == "f":
        return (pixels / 255).astype(kind)
    whole = pixels.astype(f"u{kind.itemsize}") * np.dtype(f"u{kind.itemsize}").type((256**kind.itemsize - 1) // 255)
    return (whole ^ whole.dtype.type(1 << (8 * kind.itemsize - 1))).view(kind) if kind.kind == "i" else whole


def read(data):
    return image.read(io.BytesIO(data))


@pytest.mark.fault("01 TIFF")
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("kind", ["i1", "u4", "i2", "f2", "f4", "f8"])
def test_sample_formats(kind, pixels):
    for options in (
        {}, {"order": ">"}, {"compression": DEFLATE}, {"tile": 16, "order": ">"}, {"planar": True},
        {"compression": DEFLATE, "predictor": 2, "planar": pixels.shape[2] == 3},
        {"compression": DEFLATE, "predictor": 3 if kind[0] == "f" else 2, "tile": 16, "order": ">"},
    ):  # fmt: skip
        assert np.array_equal(read(tiff(deep(pixels, kind), **options)).pixels, pixels), options


@pytest.mark.fault("01 TIFF")
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "f4"])
@pytest.mark.parametrize("tile", [None, 16])
def test_planes(kind, tile):
    """One after the other, with an opaque alpha among them."""
    data = tiff(deep(RGB, kind), planar=True, tile=tile)
    assert np.array_equal(read(data).pixels, RGB)
    four = np.concatenate([RGB, np.full_like(GREY, 255)], -1)
    assert np.array_equal(read(tiff(deep(four, kind), planar=True, tile=tile, extra=(1,))).pixels, RGB)


@pytest.mark.fault("01 TIFF")
@pytest.mark.parametrize("kind", ["u2", "u4", "i2", "f4"])
def test_white_is_zero(kind):
    for options in ({}, {"order": ">"}, {"compression": DEFLATE}):
        assert np.array_equal(read(tiff(deep(255 - GREY, kind), photometric=0, **options)).pixels, GREY)


@pytest.mark.fault("01 TIFF")
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("kind", ["u4", "f4"])
def test_alpha(kind, extra):
    """Half transparent over white: as it is, or multiplied already."""
    alpha = np.full((*GREY.shape[:2], 1), 0.5)
    rgb = RGB / 255 * (alpha if extra == 1 else 1)
    values = np.concatenate([rgb, alpha], -1) * (2**32 - 1 if kind == "u4" else 1)
    picture = read(tiff(values.astype(kind), extra=(extra,)))
    assert np.abs(picture.pixels - (RGB * 0.5 + 127.5)).max() <= 2
    assert "alpha composited over white" in picture.notes


@pytest.mark.fault("01 TIFF")
def test_one_value_beyond_white_does_not_turn_the_rest_black():
    for value in (1.0001, 40.0, -0.001):
        values = deep(RGB, "f4")
        values[5, 5] = value
        picture = read(tiff(values))
        expected = RGB.copy()
        expected[5, 5] = 255 if value > 0 else 0
        assert np.array_equal(picture.pixels, expected)
        assert "clipped to 0 to 1" in picture.notes[-1]
    values = RGB.astype(np.float32)
    values[5, 5] = 300
    assert np.abs(read(tiff(values)).pixels.astype(int) - RGB)[6:].max() == 0


@pytest.mark.fault("01 TIFF")
def test_twelve_bits():
    assert "perhaps 12 bits in 16" in read(tiff(GREY.astype(np.uint16) * 16)).notes[-1]
    packed = GREY.astype(np.uint16) * 16 + GREY // 16
    assert np.array_equal(read(tiff(packed, bits=12)).pixels, GREY)


@pytest.mark.fault("01 TIFF")
def test_bits_in_reverse():
    assert np.array_equal(read(tiff(deep(RGB, "u2"), planar=True, fill_order=2)).pixels, RGB)


@pytest.mark.fault("01 TIFF")
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_64_bit_offsets_in_big_endian_order(kind, pixels):
    for options in ({}, {"tile": 16}, {"compression": DEFLATE, "planar": True}):
        assert np.array_equal(read(as_64_bit(tiff(deep(pixels, kind), order=">", **options))).pixels, pixels), options


@pytest.mark.fault("01 TIFF")
def test_what_is_not_supported_is_not_called_damaged():
    for data, said in (
        (tiff(deep(RGB, "u2"), photometric=8), "of 16-bit unsigned samples, CIELab"),
        (tiff(deep(GREY, "f4"), photometric=32844), "of 32-bit float samples, LogL"),
        (tiff(RGB, compression=50001), "compressed by WebP"),
        (as_64_bit(tiff(GREY, order=">", photometric=3)), "with 64-bit offsets in big-endian order, palette"),
    ):
        with pytest.raises(BadFile, match=f"is a TIFF {said}, which vq does not read"):
            read(data)


@pytest.mark.fault("01 TIFF")
def test_lossless_files_hold_the_pixels_of_the_file(tmp_path, vector_model):
    """--verify compares with what was read, so what is read must be what the file holds."""
    (tmp_path / "a.tif").write_bytes(tiff(deep(RGB, "u2"), planar=True))
    encoded = api.encode(tmp_path / "a.tif", vector_model, lossless=True)
    assert np.array_equal(api.decode(encoded.data, vector_model).pixels, RGB)


def test_damage_is_an_error_of_vq():
    whole = tiff(deep(RGB, "u2"), planar=True, tile=16, compression=DEFLATE, predictor=2)
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in generator.integers(2, len(damaged), 3):
            damaged[at] = generator.integers(256)
        try:
            image.read(io.BytesIO(damaged), max_pixels=2**16)
        except BadFile:
            pass
    for keep in (9, len(whole) // 2, len(whole) - 600):
        with pytest.raises(BadFile):
            read(whole[:keep])
