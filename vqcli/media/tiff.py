"""Pages of TIFF files as they lie, for the kinds that Pillow reads wrong or not at all.

Pillow reads pages whose samples are unsigned, of up to 8 bits and lie pixel by pixel. Here are read those of other
sample formats and widths, and those that lie plane by plane; libtiff in Pillow decompresses their strips and tiles to
bytes, the rest is done here: byte order, predictor, samples (TIFF 6.0; Adobe's technical notes 1 to 3 for predictors).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from vqcli.files import Body
from vqcli.media import depth

LARGEST_CELL = 2**30  # bytes of a strip or tile
MOST_SAMPLES = 64  # of a pixel
MOST_PAGES = 4096  # that are counted
MOST_TAGS = 4096  # of a page

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 317, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC = 338, 339, 34675

_MODES = {0: "L", 1: "L", 2: "RGB", 5: "CMYK"}  # by photometric interpretation; of 0 white is zero
_TYPES = {1: "u", 2: "i", 3: "f", 4: "u"}  # by sample format
_BIG_ENDIAN_64 = b"MM\0+"  # whose tags Pillow misreads
_LETTERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}  # of integers, by type
_RAW = 1
_COMPRESSIONS = (_RAW, 5, 8, 32946, 32773, 34925, 50000)  # LZW, Deflate, PackBits, LZMA, Zstandard: all of plain bytes
_OTHERS = {34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_COLOURS = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    32803: "sensor",
    32844: "LogL",
    32845: "LogLuv",
}
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def opened(data: Body) -> TiffImageFile | Page:
    """The first page, by Pillow if it reads such pages right. Raises what Pillow raises for what neither reads."""
    tags = directory(data)
    page = None if tags is None else page_of(data, tags)
    if page is None or (page.plain and not isinstance(tags, _Tags64)):
        try:
            return TiffImageFile(data)
        except SyntaxError:  # a combination that Pillow does not know
            if page is None:
                raise
    return page


def unsupported(data: Body) -> str:
    """What it is about a file that could not be read that is not supported: "compressed by WebP"; "" if nothing."""
    tags = directory(data)
    if tags is None:
        return ""
    try:
        compression, photometric = _number(tags, _COMPRESSION, 1), _number(tags, _PHOTOMETRIC, 0)
        bits, formats = {*_numbers(tags, _BITS, 1)}, {*_numbers(tags, _SAMPLE_FORMAT, 1)}
        read = page_of(data, tags) is not None
    except ValueError:  # damaged
        return ""
    if compression in _OTHERS:
        return f"compressed by {_OTHERS[compression]}"
    if isinstance(tags, _Tags64) and not read:
        return f"with 64-bit offsets in big-endian order, {_COLOURS.get(photometric, f'photometric {photometric}')}"
    if read or (max(bits) <= 8 and formats == {1} and photometric in (*_MODES, 3, 6, 8)):
        return ""
    depths = "/".join(map(str, sorted(bits)))
    kind = "/".join(
        {1: "unsigned", 2: "signed", 3: "float", 4: "untyped"}.get(each, "complex") for each in sorted(formats)
    )
    return f"of {depths}-bit {kind} samples, {_COLOURS.get(photometric, f'photometric {photometric}')}"


class _Tags64(dict[int, Any]):
    """Tags of a big-endian file with 64-bit offsets, as Pillow has those of others: a number, numbers, or bytes."""

    prefix = b"MM"
    next = 0

    def load(self, data: Body) -> None:
        """Those of the page that begins here."""
        self.clear()
        whole, [count] = data.getbuffer(), struct.unpack(">Q", data.read(8))
        entries = data.read(20 * count if count <= MOST_TAGS else 0)
        for tag, kind, n, value in struct.iter_unpack(">HHQ8s", entries):
            letter = _LETTERS.get(kind, "s")
            length = n * struct.calcsize(f">{letter}")
            begin = struct.unpack(">Q", value)[0]
            if (stored := value[:length] if length <= 8 else bytes(whole[begin : begin + length])) and letter != "s":
                numbers = struct.unpack(f">{n}{letter}", stored)
                self[tag] = numbers[0] if n == 1 else numbers
            else:
                self[tag] = stored
        [self.next] = struct.unpack(">Q", data.read(8))


Tags = ImageFileDirectory_v2 | _Tags64


def directory(data: Body) -> Tags | None:
    """The tags of the first page, None if they cannot be read. `data` is at its beginning then."""
    try:
        data.seek(0)
        head = data.read(8)
        tags: Tags
        if head.startswith(_BIG_ENDIAN_64):
            tags = _Tags64()
            [tags.next] = struct.unpack(">Q", data.read(8))
        else:
            tags = ImageFileDirectory_v2(head + (data.read(8) if head[2:3] == b"+" else b""))
        data.seek(tags.next)
        tags.load(data)
        return tags
    except Exception:  # on hostile bytes Pillow raises arbitrary exceptions
        return None
    finally:
        data.seek(0)


def _numbers(tags: Tags, tag: int, default: int) -> tuple[int, ...]:
    found: Any = tags.get(tag, default)
    numbers = found if isinstance(found, tuple) else (found,)
    if not numbers or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError(f"tag {tag} holds no numbers")
    return numbers


def _number(tags: Tags, tag: int, default: int) -> int:
    return _numbers(tags, tag, default)[0]


def page_of(data: Body, tags: Tags) -> Page | None:
    """The page if it is of a kind that is read here."""
    mode = _MODES.get(_number(tags, _PHOTOMETRIC, 0))
    bits, formats = set(_numbers(tags, _BITS, 1)), set(_numbers(tags, _SAMPLE_FORMAT, 1))
    compression, predictor = _number(tags, _COMPRESSION, 1), _number(tags, _PREDICTOR, 1)
    if mode is None or len(bits) != 1 or len(formats) != 1 or compression not in _COMPRESSIONS:
        return None
    [depth_bits], kind = bits, _TYPES.get(formats.pop())
    widths = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}.get(kind or "", ())
    count = _number(tags, _SAMPLES, 1)
    known_predictor = predictor == 1 or (predictor == 2 and depth_bits % 8 == 0) or (predictor == 3 and kind == "f")
    if kind is None or depth_bits not in widths or not len(mode) <= count <= MOST_SAMPLES or not known_predictor:
        return None
    extra = _numbers(tags, _EXTRA_SAMPLES, 0)[0] if count > len(mode) else 0
    if _EXTRA_SAMPLES not in tags and (mode, count) == ("RGB", 4):
        extra = 2  # as Pillow and others have it where the tag is missing
    return Page(data, tags, mode, kind, depth_bits, count, {1: "a", 2: "A"}.get(extra, ""))


@dataclass(frozen=True, eq=False)
class Page:
    """A page of a TIFF."""

    data: Body
    tags: Tags
    mode: str  # as Pillow calls it, without alpha
    kind: str  # of samples: u, i or f
    bits: int
    count: int  # samples of a pixel
    alpha: str  # A, or a where colours are multiplied by it

    @property
    def width(self) -> int:
        return _number(self.tags, _WIDTH, 0)

    @property
    def height(self) -> int:
        return _number(self.tags, _HEIGHT, 0)

    @property
    def planar(self) -> bool:
        return self.count > 1 and _number(self.tags, _PLANAR, 1) == 2

    @property
    def plain(self) -> bool:
        """Whether Pillow reads such pages right."""
        return not self.planar and self.kind == "u" and self.bits in (1, 2, 4, 8)

    @property
    def n_frames(self) -> int:
        """How many pages the file has."""
        seen, tags = {0}, self.tags
        while tags.next not in seen and len(seen) < MOST_PAGES:
            seen.add(tags.next)
            try:
                self.data.seek(tags.next)
                tags.load(self.data)
            except Exception:
                break
        return len(seen)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def image(self, notes: list[str]) -> Image.Image:
        """The page with 8 bits a sample, its profile and orientation in `info` as Pillow has them."""
        if not self.width or not self.height:
            raise ValueError("no pixels")
        values, full = self.samples(), depth.full_range(self._type, self.bits)
        colours = values[..., : len(self.mode)]
        if self.alpha == "a":  # colours that are multiplied by alpha have its scale
            colours = depth.scaled(colours, *full)
            notes.append(f"{self.bits} bits reduced to 8")
        else:
            colours = depth.to_8_bits(colours, notes, self.bits)
        if _number(self.tags, _PHOTOMETRIC, 0) == 0:
            colours = 255 - colours
        mode = self.mode
        if self.alpha and mode != "CMYK":
            alpha = depth.scaled(values[..., len(mode) :], *full)
            colours, mode = np.concatenate([colours, alpha], -1), mode + self.alpha
        image = Image.frombytes(mode, (self.width, self.height), np.ascontiguousarray(colours).tobytes())
        exif = Image.Exif()
        exif[_ORIENTATION] = _number(self.tags, _ORIENTATION, 1)
        image.info["exif"] = exif.tobytes()
        if _ICC in self.tags:
            image.info["icc_profile"] = self.tags[_ICC]
        return image

    def samples(self) -> np.ndarray:
        """[H, W, colours and alpha] as the file holds them, of the native type that fits."""
        kept = len(self.mode) + (bool(self.alpha) if self.mode != "CMYK" else 0)
        tiled, together = _TILES in self.tags, 1 if self.planar else self.count
        width, height = self.width, min(_number(self.tags, _ROWS_PER_STRIP, self.height), self.height)
        if tiled:
            width, height = _number(self.tags, _TILE_WIDTH, 0), _number(self.tags, _TILE_HEIGHT, 0)
        row_bytes = -(-width * together * self.bits // 8)
        if not 0 < row_bytes * height <= min(LARGEST_CELL, 2**26 + self.width * self.height * self.count * 8):
            raise ValueError(f"a strip or tile of {row_bytes * height} bytes")
        across, cells = -(-self.width // width), -(-self.width // width) * -(-self.height // height)
        places = self._places(cells * (kept if self.planar else 1))
        found = np.empty((self.height, self.width, kept), self._type)
        for number, (begin, size) in enumerate(places):
            plane, cell = divmod(number, cells)
            y, x = cell // across * height, cell % across * width
            rows = height if tiled else min(height, self.height - y)
            values = self._values(self._bytes(begin, size, rows, row_bytes), width, together)
            planes = slice(plane, plane + 1) if self.planar else slice(kept)
            found[y : y + height, x : x + width, planes] = values[: self.height - y, : self.width - x, :kept]
        return found

    def _places(self, count: int) -> list[tuple[int, int]]:
        """Where the first strips or tiles begin, and of how many bytes they are."""
        tiled = _TILES in self.tags
        begins = _numbers(self.tags, _TILES if tiled else _STRIPS, 0)[:count]
        sizes = _numbers(self.tags, _TILE_SIZES if tiled else _STRIP_SIZES, LARGEST_CELL)
        if len(begins) < count:
            raise ValueError(f"{len(begins)} of {count} strips or tiles")
        return list(zip(begins, sizes if len(sizes) >= count else (LARGEST_CELL,) * count, strict=False))

    @property
    def _type(self) -> np.dtype[Any]:
        """Of samples in memory."""
        size = 1 if self.bits <= 8 else 2 if self.bits <= 16 else self.bits // 8
        return np.dtype(f"{self.kind}{size}")

    def _bytes(self, begin: int, size: int, rows: int, row_bytes: int) -> np.ndarray:
        """A strip or tile without its compression, uint8 [rows, row_bytes]."""
        whole, needed = self.data.getbuffer(), rows * row_bytes
        compression, fill_order = _number(self.tags, _COMPRESSION, 1), _number(self.tags, _FILL_ORDER, 1)
        if compression == _RAW:
            plain = np.frombuffer(whole[begin : begin + needed], np.uint8)
            return (_REVERSED[plain] if fill_order == 2 else plain).reshape(rows, row_bytes)
        file = _as_file(bytes(whole[begin : begin + size]), row_bytes, rows, compression, fill_order)
        return np.asarray(Image.frombytes("L", (row_bytes, rows), file, "libtiff", "L", False, 8))

    def _values(self, stored: np.ndarray, width: int, together: int) -> np.ndarray:
        """Samples [rows, width, together] of bytes [rows, row_bytes]."""
        rows, predictor = len(stored), _number(self.tags, _PREDICTOR, 1)
        if self.bits % 8:
            return _unpacked(stored, width * together, self.bits, self._type).reshape(rows, width, together)
        size = self.bits // 8
        if predictor == 3:  # bytes, the most significant of all samples first, as differences
            summed = np.cumsum(stored.reshape(rows, -1, together), 1, np.uint8).reshape(rows, size, -1)
            exact = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">u{size}")
        else:
            exact = np.ascontiguousarray(stored).view(f"{'>' if self.tags.prefix == b'MM' else '<'}u{size}")
        exact = exact.reshape(rows, width, together).astype(f"u{size}")
        if predictor == 2:
            exact = np.cumsum(exact, 1, exact.dtype)
        values: np.ndarray = exact.view(self._type)
        return values


def _unpacked(stored: np.ndarray, count: int, bits: int, kind: np.dtype[Any]) -> np.ndarray:
    """Numbers [rows, count] of so many bits each, the highest first; rows begin with a byte."""
    values = np.empty((len(stored), count), kind)
    step = max(1, 2**20 // max(count, 1))
    for at in range(0, len(stored), step):
        flags = np.unpackbits(stored[at : at + step], axis=1)[:, : count * bits].reshape(-1, count, bits)
        values[at : at + step] = sum(flags[..., bit].astype(kind) << (bits - 1 - bit) for bit in range(bits))
    return values


def _as_file(packed: bytes, width: int, height: int, compression: int, fill_order: int) -> bytes:
    """A TIFF of one strip of grey bytes, which libtiff decompresses."""
    tags = (
        (_WIDTH, width), (_HEIGHT, height), (_BITS, 8), (_COMPRESSION, compression), (_PHOTOMETRIC, 1),
        (_FILL_ORDER, fill_order), (_STRIPS, 0), (_SAMPLES, 1), (_ROWS_PER_STRIP, height), (_STRIP_SIZES, len(packed)),
    )  # fmt: skip
    begin = 8 + 2 + 12 * len(tags) + 4
    entries = (struct.pack("<HHII", tag, 4, 1, begin if tag == _STRIPS else value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + packed
