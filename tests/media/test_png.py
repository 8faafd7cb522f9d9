"""What PNGs say of colour and transparency in chunks that Pillow leaves aside."""

import io
import struct
import zlib

import numpy as np
import pytest

from vqcli.media import colour, image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png(values, depth, colour_type, **chunks):
    """A PNG of samples [H, W, C], of up to 8 bits as uint8, of 16 as uint16."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    H, W, _ = values.shape
    rows = [row.astype(">u2").tobytes() for row in values] if depth == 16 else [row.tobytes() for row in values]
    if depth < 8:
        rows = [np.packbits(np.unpackbits(row.reshape(-1, 1), axis=1)[:, 8 - depth :]).tobytes() for row in values]
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, colour_type, 0, 0, 0))
    body += b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    body += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def read(*arguments, **chunks):
    return image.read(io.BytesIO(png(*arguments, **chunks)))


@pytest.mark.fault("01 tRNS")
@pytest.mark.parametrize("depth", [2, 4])
def test_transparent_grey_of_few_bits(depth):
    values = (np.arange(16, dtype=np.uint8) % 2**depth).reshape(4, 4, 1)
    picture = read(values, depth, 0, tRNS=struct.pack(">H", 2))
    expected = values * (255 // (2**depth - 1))
    expected[values == 2] = 255
    assert np.array_equal(picture.pixels, expected) and picture.notes == ("alpha composited over white",)


@pytest.mark.fault("01 tRNS")
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour_of_16_bits(channels):
    """All 16 bits count: a colour that differs in the low ones is another."""
    values = np.array([0x1200, 0x1234, 0x12FF, 0x3400], np.uint16).reshape(2, 2, 1).repeat(channels, 2)
    key = struct.pack(f">{channels}H", *[0x1234] * channels)
    picture = read(values, 16, 0 if channels == 1 else 2, tRNS=key)
    assert picture.pixels[..., 0].tolist() == [[0x12, 255], [0x13, 0x34]]
    assert picture.notes == ("16 bits reduced to 8", "alpha composited over white")


@pytest.mark.fault("01 16 bits")
def test_16_bit_colours_are_rounded_not_cut():
    values = np.array([128, 129, 65406, 65407], np.uint16).reshape(2, 2, 1)
    assert read(values.repeat(3, 2), 16, 2).pixels[..., 1].tolist() == [[0, 1], [254, 255]]
    assert read(np.concatenate([values.repeat(3, 2), values | 65535], 2), 16, 6).pixels[..., 2].tolist() == [
        [0, 1],
        [254, 255],
    ]


@pytest.mark.fault("01 gamma")
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_linear_light(depth, channels):
    light = np.where(RAMP / 255 <= 0.04045, RAMP / 255 / 12.92, ((RAMP / 255 + 0.055) / 1.055) ** 2.4)
    values = np.rint(light * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)[..., None]
    gamma = struct.pack(">I", 100_000)
    picture = read(values.repeat(channels, 2), depth, 0 if channels == 1 else 2, gAMA=gamma)
    off = np.abs(picture.pixels.astype(int) - RAMP[..., None])
    assert off[RAMP > 100].max() <= (1 if depth == 8 else 0) and (depth == 8 or off.max() <= 1)
    assert picture.notes[-1] == "gamma 1 converted to sRGB"
    same = read(values.repeat(channels, 2), depth, 0 if channels == 1 else 2, gAMA=gamma, sRGB=b"\0")
    assert not any("gamma" in note for note in same.notes)  # sRGB comes first


@pytest.mark.fault("01 gamma")
def test_chromaticities():
    """The red of Display P3 is beyond sRGB; its white is white."""
    p3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
    chunks = {"gAMA": struct.pack(">I", 45_455), "cHRM": struct.pack(">8I", *(round(1e5 * value) for value in p3))}
    values = np.array([[[255, 0, 0], [255, 255, 255]], [[128, 128, 128], [200, 100, 50]]], np.uint8)
    picture = read(values, 8, 2, **chunks)
    # as Little CMS converts by a profile with these primaries
    assert np.abs(picture.pixels.astype(int) - [[[255, 0, 0], [255] * 3], [[128] * 3, [215, 93, 31]]]).max() <= 2
    assert picture.notes == ("chromaticities converted to sRGB",)


def test_srgb_by_its_numbers_is_no_news():
    chunks = {"gAMA": struct.pack(">I", 45_455)}
    chunks["cHRM"] = struct.pack(">8I", *(round(1e5 * value) for value in colour.SRGB))
    values = RAMP[..., None].repeat(3, 2)
    picture = read(values, 8, 2, **chunks)
    assert np.array_equal(picture.pixels, values) and picture.notes == ()


def test_numbers_that_make_no_sense_are_ignored():
    values = RAMP[..., None].repeat(3, 2)
    for chunks in ({"cHRM": bytes(32)}, {"gAMA": struct.pack(">I", 1)}, {"gAMA": bytes(4)}):
        assert np.array_equal(read(values, 8, 2, **chunks).pixels, values)


@pytest.mark.fault("01 gamma")
def test_colours_by_code_points_are_taken_for_srgb_with_a_note():
    wide = read(RAMP[..., None], 8, 0, cICP=bytes((9, 16, 0, 1)))
    assert wide.notes == ("colours of primaries 9 and transfer 16 (cICP) taken for sRGB",)
    assert np.array_equal(wide.pixels[..., 0], RAMP)
    assert read(RAMP[..., None], 8, 0, cICP=bytes((1, 13, 0, 1))).notes == ()
