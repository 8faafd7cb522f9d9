"""Files of EnCodec's own program, .ecdc: read, and written, codes unchanged.

    "ECDC", u8 version 0, u32 length of a JSON header {m: model, al: samples, nc: codebooks, lm: language model}
    then of each segment
        f32 its scale, if the model has one
        of each position, of each codebook a code of 10 bits, least significant bit first; zero bits fill the last byte

Numbers are big-endian. To the model of 24 kHz a recording is one segment. With `lm` codes are under a language model in
floats, which returns them on the machine that wrote them, if at all.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import numpy as np

from vqcli.errors import BadFile, UsageError
from vqcli.nets.codecs.framing import Framing

MAGIC, VERSION, HEAD = b"ECDC", 0, struct.Struct(">4sBI")
BITS = 10
LARGEST_HEADER, LARGEST_SAMPLES = 2**16, 2**32


@dataclass(frozen=True)
class Kind:
    """A model that such files are of.

    name       in them
    model      what it is called here, unless another is named
    family     that it is of here
    codebooks  at most
    scaled     whether segments have a scale
    """

    name: str
    model: str
    family: str
    rate_hz: int
    channels: int
    codebooks: int
    framing: Framing
    scaled: bool

    def segments(self, samples: int) -> np.ndarray:
        """The position that each segment begins at, and the number of all of them."""
        positions = self.framing.positions(samples)
        return self.framing.segments(positions) if self.scaled else np.array([0, positions])

    def segment_bytes(self, positions: int, codebooks: int) -> int:
        """Of a segment in a file."""
        return 4 * self.scaled + -(-positions * codebooks * BITS // 8)


KINDS = (
    Kind("encodec_24khz", "encodec-24khz", "encodec", 24_000, 1, 32, Framing(320), scaled=False),
    Kind("encodec_48khz", "encodec-48khz", "encodec_stereo", 48_000, 2, 16, Framing(320, 150, 47_520), scaled=True),
)


@dataclass(frozen=True)
class Content:
    """What a file holds.

    codes    uint16 [codebooks, positions], segment after segment
    samples  of each channel, at the rate of the model
    scales   of the segments, little-endian float32, b"" if they have none
    """

    kind: Kind
    codes: np.ndarray
    samples: int
    scales: bytes = b""


def read(data: bytes) -> Content:
    """The content of a file. Raises BadFile for what is no such file, for a cut one, and for other kinds by name."""
    kind, samples, codebooks, body = _header(data)
    begins = kind.segments(samples)
    sizes = [kind.segment_bytes(int(positions), codebooks) for positions in np.diff(begins)]
    if len(body) != sum(sizes):
        raise BadFile(
            f"this .ecdc file is cut or damaged: {len(body)} bytes of codes are not the {sum(sizes)} it needs"
        )
    parts, scales, at = [], b"", 0
    for positions, size in zip(np.diff(begins), sizes, strict=True):
        segment, at = body[at : at + size], at + size
        if kind.scaled:
            scales += segment[3::-1].tobytes()
            segment = segment[4:]
        count = int(positions) * codebooks
        bits = np.unpackbits(segment, bitorder="little")[: count * BITS].reshape(count, BITS)
        parts.append((bits.astype(np.uint16) @ (1 << np.arange(BITS, dtype=np.uint16))).reshape(-1, codebooks).T)
    return Content(kind, np.concatenate(parts, 1), samples, scales)


def write(content: Content) -> bytes:
    """The mirror of `read`. Raises UsageError for codes that such a file cannot hold."""
    kind, codes = content.kind, content.codes
    codebooks, positions = codes.shape
    begins = kind.segments(content.samples)
    fits = codebooks <= kind.codebooks and positions == begins[-1] and codes.max(initial=0) < 2**BITS
    if not fits or len(content.scales) != 4 * (len(begins) - 1) * kind.scaled:
        raise UsageError(f"codes {list(codes.shape)} do not fit into an .ecdc file", f"those of {kind.model} do")
    header = json.dumps({"m": kind.name, "al": content.samples, "nc": codebooks, "lm": False}).encode()
    parts = [HEAD.pack(MAGIC, VERSION, len(header)), header]
    for number, segment in enumerate(np.split(codes, begins[1:-1], 1)):
        bits = segment.T.reshape(-1, 1) >> np.arange(BITS, dtype=np.uint16) & 1
        scale = content.scales[4 * number :][:4]
        parts += [scale[::-1], np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()]
    return b"".join(parts)


def _header(data: bytes) -> tuple[Kind, int, int, np.ndarray]:
    """The model, the samples, the codebooks and the bytes of the segments."""
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise BadFile("this is no .ecdc file")
    _, version, length = HEAD.unpack_from(data)
    if version != VERSION or length > min(LARGEST_HEADER, len(data) - HEAD.size):
        raise BadFile(f"this .ecdc file is damaged, or of another version than {VERSION}")
    try:
        header = json.loads(data[HEAD.size : HEAD.size + length])
        name, samples, codebooks, coded = header["m"], header["al"], header["nc"], header["lm"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadFile("the header of this .ecdc file is damaged") from None
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        known = " and ".join(kind.name for kind in KINDS)
        raise BadFile(f"this .ecdc file is of {str(name)[:40]!r}, and vq reads those of {known} only")
    if coded:
        raise BadFile(
            "this .ecdc file is coded with EnCodec's language model, which other machines cannot follow",
            "write it anew without --lm",
        )
    if type(samples) is not int or type(codebooks) is not int:
        raise BadFile("the header of this .ecdc file is damaged")
    if not (1 <= samples <= LARGEST_SAMPLES and 1 <= codebooks <= kind.codebooks):
        raise BadFile(f"{samples} samples in {codebooks} codebooks are not what an .ecdc file holds")
    return kind, samples, codebooks, np.frombuffer(data, np.uint8, offset=HEAD.size + length)
