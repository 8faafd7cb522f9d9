"""Files of EnCodec's own program, .ecdc: read, and written, codes unchanged.

    "ECDC", u8 version 0, u32 length of a JSON header {m: model, al: samples, nc: codebooks, lm: language model}
    then of each position, of each codebook a code of 10 bits, least significant bit first; zero bits fill the last byte

Numbers are big-endian. The layout is that of the model of 24 kHz; that of 48 kHz has segments with a scale each, which
vq does not read. With `lm` codes are under a language model in floats, which returns them on the machine that wrote
them, if at all.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from vqcli.errors import BadFile, UsageError

MAGIC, VERSION, HEAD = b"ECDC", 0, struct.Struct(">4sBI")
NAME, RATE_HZ, STRIDE, BITS, MOST = "encodec_24khz", 24_000, 320, 10, 32
MODEL = "encodec-24khz"  # what such a model is called here, unless another is named
LARGEST_HEADER, LARGEST_SAMPLES = 2**16, 2**32


def read(data: bytes) -> tuple[np.ndarray, int]:
    """Codes uint16 [codebooks, positions], and the samples of the recording at 24 kHz.

    Raises BadFile for what is no such file, for a cut one, and for those of other kinds by name.
    """
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
    if name != NAME:
        raise BadFile(f"this .ecdc file is of {str(name)[:40]!r}, and vq reads those of {NAME} only")
    if coded:
        raise BadFile(
            "this .ecdc file is coded with EnCodec's language model, which other machines cannot follow",
            "write it anew without --lm",
        )
    if type(samples) is not int or type(codebooks) is not int:
        raise BadFile("the header of this .ecdc file is damaged")
    if not (1 <= samples <= LARGEST_SAMPLES and 1 <= codebooks <= MOST):
        raise BadFile(f"{samples} samples in {codebooks} codebooks are not what an .ecdc file holds")
    count = -(-samples // STRIDE) * codebooks
    body = np.frombuffer(data, np.uint8, offset=HEAD.size + length)
    if len(body) != -(-count * BITS // 8):
        raise BadFile(f"this .ecdc file is cut or damaged: {len(body)} bytes of codes are not those of {count}")
    bits = np.unpackbits(body, bitorder="little")[: count * BITS].reshape(count, BITS)
    codes = bits.astype(np.uint16) @ (1 << np.arange(BITS, dtype=np.uint16))
    return codes.reshape(-1, codebooks).T.copy(), samples


def write(codes: np.ndarray, samples: int) -> bytes:
    """The mirror of `read`. Raises UsageError for codes that such a file cannot hold."""
    codebooks, positions = codes.shape
    if not (codebooks <= MOST and positions == -(-samples // STRIDE) and codes.max(initial=0) < 2**BITS):
        raise UsageError(
            f"codes {list(codes.shape)} do not fit into an .ecdc file", "one channel of encodec-24khz does"
        )
    header = json.dumps({"m": NAME, "al": samples, "nc": codebooks, "lm": False}).encode()
    bits = codes.T.reshape(-1, 1) >> np.arange(BITS, dtype=np.uint16) & 1
    return (
        HEAD.pack(MAGIC, VERSION, len(header))
        + header
        + np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    )
