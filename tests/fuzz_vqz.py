"""Random damage to valid .vqz files: python tests/fuzz_vqz.py --count 10000 --seed 0

Whatever the damage, `unpack` ends in BadFile, or returns a file that packs to exactly the bytes it
was given. Bytes other than those of the original can only pass where the header's own checksum was
made to fit. With salvage, a payload is either the original one or None.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

from vqcli.container import vqz
from vqcli.container.fields import u32, varint
from vqcli.container.header import LosslessResidual
from vqcli.errors import BadFile, DamagedChunks


def samples() -> list[tuple[vqz.Header, list[bytes]]]:
    """Files of each modality and format version, with and without chunks, levels, runs, prior and metadata."""
    common = {"model": "tiny-1.0", "digest": b"\1\2\3\4\5\6\7\x08", "coder": 1}
    photo = vqz.Header(
        modality="image",
        size=(17, 9, 3),
        grid=(2, 3),
        codebook_sizes=(8,),
        levels=1,
        codes_crcs=(0xDEADBEEF,),
        **common,
    )
    speech = vqz.Header(
        modality="audio",
        size=(70000, 16000, 1),
        grid=(300,),
        chunk=(128,),
        codebook_sizes=(512, 512, 64, 64),
        levels=2,
        quality=5,
        prior=b"priorsha",
        codes_crcs=(1, 2**32 - 1),
        metadata={"speaker": "p225", "text": "né\n\"'"},
        **common,
    )
    video = vqz.Header(
        modality="video",
        size=(64, 48, 10, 29970),
        grid=(10, 6, 8),
        chunk=(4, 6, 8),
        codebook_sizes=(65536, 2),
        levels=1,
        codes_crcs=(7,),
        **common,
    )
    lossless = replace(photo, chunk=(2, 2), levels=2, codebook_sizes=(8, 9), codes_crcs=(1, 2))
    lossless = replace(lossless, residual=LosslessResidual(0, 0xDEADBEEF))
    uneven = replace(speech, codebook_sizes=(4096,) * 7, uneven=(1, 2, 4), levels=3, codes_crcs=(7, 8, 9))
    wide = replace(photo, codebook_sizes=(65536, 65537, 64, 262144), levels=2, codes_crcs=(3, 4))
    stereo = replace(speech, prior=b"", side_bytes=24)
    uneven_stereo = replace(uneven, chunk=(200,), side_bytes=16)
    headers = (photo, speech, video, lossless, uneven, wide, stereo, uneven_stereo)
    assert {header.version for header in headers} == {1, 2, 3, 4}
    source = random.Random(1)
    sizes = [
        [4],
        [60, 61, 0, 20, 130, 9],
        [200, 200, 100],
        [4, 5, 6, 0, 70, 80],
        [9, 0, 30, 7, 20, 1, 40, 2, 3],
        [50, 60],
        [30, 20, 10, 5, 6, 7],
        [12, 25, 40, 1, 0, 8],
    ]
    files = [(header, [source.randbytes(size) for size in row]) for header, row in zip(headers, sizes, strict=True)]
    for header, payloads in files:
        if header.side_bytes:
            chunks = header.chunk_count
            payloads[:chunks] = [vqz.with_side(source.randbytes(8), payload) for payload in payloads[:chunks]]
    return files


def flip(data: bytes, source: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        damaged[source.randrange(len(damaged))] ^= source.randrange(1, 256)
    return bytes(damaged)


def truncate(data: bytes, source: random.Random) -> bytes:
    return data[: source.randrange(len(data))]


def insert(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + source.randbytes(source.randrange(1, 9)) + data[at:]


def delete(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data))
    return data[:at] + data[at + source.randrange(1, 9) :]


def splice(data: bytes, source: random.Random) -> bytes:
    """The beginning of the file, then any end of itself."""
    return data[: source.randrange(len(data))] + data[source.randrange(len(data)) :]


def edit_header(data: bytes, source: random.Random) -> bytes:
    """Damage the header fields, then make the header's length and checksum fit."""
    begin, end = header_span(data)
    change = source.choice((flip, flip, flip, insert, delete, truncate, splice, extreme))
    version = source.choice((data[6], data[6], data[6], 1, 2, 3, 4))
    return seal(change(data[begin:end], source), version) + data[end + 4 :]


def extreme(fields: bytes, source: random.Random) -> bytes:
    """Put a very large or very small number anywhere."""
    at = source.randrange(len(fields))
    number = source.choice(
        (b"\0", b"\1", b"\x80\0", b"\xff\xff\x03", b"\xff\xff\xff\xff\x0f", b"\xff" * 6, b"\xff" * 9)
    )
    return fields[:at] + number + fields[at + source.randrange(4) :]


def header_span(data: bytes) -> tuple[int, int]:
    """Where the header fields of a valid file begin and end."""
    length, at = 0, 7
    for shift in range(0, 42, 7):
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return at, at + length


def seal(fields: bytes, version: int) -> bytes:
    """Header fields as the front of a file of this version whose length and checksum fit."""
    front = vqz.MAGIC + bytes([version]) + varint(len(fields)) + fields
    return front + u32(crc32(front))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, truncate, insert, delete, splice, edit_header)


def check(data: bytes, original: bytes, payloads: list[bytes], resealed: bool) -> str:
    """Assert what the module's docstring says of one damaged file; returns the kind of outcome."""
    outcome = "read"
    try:
        parsed = vqz.unpack(data)
        assert vqz.pack(parsed.header, parsed.payloads) == data
        assert resealed or data == original
    except DamagedChunks as error:
        outcome = "DamagedChunks"
        assert error.chunks == vqz.unpack(data, salvage=True).damaged
    except BadFile:
        outcome = "BadFile"
    try:
        saved = vqz.unpack(data, salvage=True)
    except BadFile:
        assert outcome == "BadFile"
        return outcome
    if resealed:
        assert {payload for payload in saved.payloads if payload} <= set(payloads)
    else:
        assert all(kept in (None, whole) for kept, whole in zip(saved.payloads, payloads, strict=True))
    return outcome if outcome != "BadFile" else "BadFile, salvaged"


def fuzz(count: int, seed: int) -> Counter[tuple[str, str]]:
    """Check `count` random mutations; returns how often each (mutation, outcome) came."""
    source = random.Random(seed)
    files = [(vqz.pack(header, payloads), payloads) for header, payloads in samples()]
    tally: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        original, payloads = source.choice(files)
        mutation = source.choice(MUTATIONS)
        data = mutation(original, source)
        try:
            outcome = check(data, original, payloads, mutation is edit_header)
        except Exception as error:
            raise AssertionError(f"mutation {number} of seed {seed}, {mutation.__name__}: {data.hex()}") from error
        tally[mutation.__name__, outcome] += 1
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for (mutation, outcome), times in sorted(fuzz(options.count, options.seed).items()):
        print(f"{mutation:12} {outcome:18} {times:8}")
