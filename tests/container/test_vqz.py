import dataclasses
import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from vqcli.container import vqz
from vqcli.container.header import LosslessResidual
from vqcli.errors import BadFile, DamagedChunks, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"

# The smallest image: 2 x 1 grey pixels, one code out of K = 4, which is 3, in one byte of payload.
MINIMAL = (
    b"\x89VQZ\r\n"  # magic
    b"\x01"  # format version 1
    b"\x22"  # 34 bytes of header fields
    b"\x01"  # modality: image
    b"\x00"  # coder: packed
    b"\x00"  # quality: none
    b"\x01"  # levels: 1
    b"\x01m"  # model name: 1 byte, "m"
    b"ABCDEFGH"  # model digest
    b"\x00"  # no prior
    b"\x02\x01\x01"  # width 2, height 1, channels 1
    b"\x01\x01"  # grid: 1 row, 1 column
    b"\x00"  # one chunk
    b"\x01\x04\x01"  # one run of codebook sizes: K = 4, 1 time
    b"\x3c\x41\xf4\x6a"  # CRC-32 of the codes, 03 00
    b"\x00"  # no metadata
    b"\x01\x3d\x2d\x66\x49"  # index: one payload of 1 byte, its CRC-32
    b"\x75\x7f\xee\x95"  # CRC-32 of all that
    b"\xc0"  # payload
)
MINIMAL_HEADER = vqz.Header(
    modality="image",
    size=(2, 1, 1),
    grid=(1, 1),
    codebook_sizes=(4,),
    levels=1,
    model="m",
    digest=b"ABCDEFGH",
    coder=0,
    codes_crcs=(0x6AF4413C,),
)


def chunked(**changes: object) -> vqz.Header:
    """Audio in 2 levels of 2 groups and 3 chunks: 6 payloads."""
    header = vqz.Header(
        modality="audio",
        size=(70000, 16000, 1),
        grid=(300,),
        chunk=(128,),
        codebook_sizes=(512, 512, 64, 64),
        levels=2,
        quality=5,
        model="speech",
        digest=b"\1" * 8,
        coder=2,
        codes_crcs=(1, 2),
        metadata={"speaker": "p225"},
    )
    return dataclasses.replace(header, **changes)


IMAGE = {"modality": "image", "size": (70000, 16000, 1), "grid": (3, 1), "chunk": ()}
PAYLOADS = (b"one", b"second", b"", b"fourth payload", b"5", b"six")


def test_literal_bytes() -> None:
    assert vqz.pack(MINIMAL_HEADER, [b"\xc0"]) == MINIMAL
    assert vqz.unpack(MINIMAL) == vqz.Vqz(MINIMAL_HEADER, (b"\xc0",), (1,))
    assert vqz.codes_crc(np.array([[[3]]])) == MINIMAL_HEADER.codes_crcs[0]


@pytest.mark.parametrize("data", [MINIMAL, vqz.pack(chunked(), PAYLOADS)], ids=["minimal", "chunked"])
def test_every_truncation_and_every_bit_flip_is_noticed(data: bytes) -> None:
    front = len(data) - sum(vqz.unpack(data).lengths)
    for end in range(len(data)):
        with pytest.raises(BadFile, match="truncated" if end else "empty"):
            vqz.unpack(data[:end])
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedChunks if bit // 8 >= front else BadFile):
            vqz.unpack(bytes(flipped))


def test_salvage_keeps_what_is_whole() -> None:
    data = bytearray(vqz.pack(chunked(), PAYLOADS))
    data[-1] ^= 1  # in the sixth
    data[data.index(b"second")] ^= 1
    with pytest.raises(DamagedChunks, match=r"^chunks 2, 6 of 6 are damaged$") as caught:
        vqz.unpack(bytes(data))
    assert caught.value.chunks == (1, 5)
    assert "--salvage" in caught.value.hint
    saved = vqz.unpack(bytes(data), salvage=True)
    assert saved.payloads == (b"one", None, b"", b"fourth payload", b"5", None)
    assert saved.damaged == (1, 5)
    assert saved.size_bytes == len(data)
    assert saved.payload(1, 0) == b"fourth payload" and saved.payload(1, 2) is None
    with pytest.raises(BadFile, match="6 payloads are needed, 4 are there"):
        vqz.pack(saved.header, saved.payloads)
    cut = vqz.unpack(bytes(data[:-4]), salvage=True)
    assert cut.damaged == (1, 4, 5)
    with pytest.raises(DamagedChunks, match=r"^truncated, \d+ of \d+ bytes: chunks 2, 5, 6 of 6"):
        vqz.unpack(bytes(data[:-4]))


def test_a_cut_payload_does_not_lend_its_bytes_to_the_next() -> None:
    data = vqz.pack(chunked(levels=1, codebook_sizes=(8,), codes_crcs=(1,)), [b"first", b"abcdef", b"abc"])
    assert vqz.unpack(data[:-6], salvage=True).payloads == (b"first", None, None)


def test_long_lists_of_damage_are_cut() -> None:
    header = chunked(chunk=(10,))
    data = vqz.pack(header, [b"x"] * 60)
    with pytest.raises(DamagedChunks, match="chunks 1, 2, 3, 4, 5, 6, 7, 8 and 52 more of 60 are damaged"):
        vqz.unpack(data[:-60] + b"y" * 60)


def test_bytes_after_the_end() -> None:
    with pytest.raises(BadFile, match="2 bytes follow the end"):
        vqz.unpack(MINIMAL + b"\0\0")
    assert vqz.unpack(MINIMAL + b"\0\0", salvage=True) == vqz.unpack(MINIMAL)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "starts with PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "starts with JPEG"),
        (b"\0\0\0\x20ftypavif" + bytes(50), "MP4"),
        (b"RIFF1234WAVE" + bytes(50), "WAV"),
        (bytes(50), "unknown first bytes"),
        (b"\x89V", "truncated"),
        (MINIMAL.replace(b"\r\n", b"\n"), "newline"),
        (MINIMAL.replace(b"\n", b"\r\n"), "newline"),
        (MINIMAL.decode("latin-1").encode(), "text conversion"),
        (MINIMAL[:6] + b"\x05" + MINIMAL[7:], r"made by a newer vq \(format version 5; this one reads up to 4\)"),
        (MINIMAL[:6] + b"\x04" + MINIMAL[7:], "checksum"),
        (MINIMAL[:6] + b"\x03" + MINIMAL[7:], "checksum"),
        (MINIMAL[:6] + b"\x02" + MINIMAL[7:], "header is damaged"),
        (MINIMAL[:6] + b"\x00" + MINIMAL[7:], "version 0"),
        (MINIMAL[:8] + b"\x02" + MINIMAL[9:], "header is damaged"),
        (MINIMAL[:7] + b"\xff" * 5 + b"\x01" + MINIMAL[8:], "length is out of range"),
    ],
)
def test_messages(data: bytes, message: str) -> None:
    for salvage in (False, True):
        with pytest.raises(BadFile, match=message):
            vqz.unpack(data, salvage=salvage)


def resealed(old: bytes, new: bytes) -> bytes:
    """MINIMAL with a part of its header replaced, and its length and checksum made to fit."""
    fields = MINIMAL[8:-5]
    assert fields.count(old) == 1
    fields = fields.replace(old, new)
    length = bytes([len(fields)]) if len(fields) < 128 else bytes([len(fields) & 127 | 128, len(fields) >> 7])
    front = MINIMAL[:7] + length + fields
    return front + zlib.crc32(front).to_bytes(4, "little") + MINIMAL[-1:]


def metadata(text: bytes) -> bytes:
    length = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
    return resealed(b"\x6a\x00\x01", b"\x6a" + length + text + b"\x01")


def test_resealing_is_sound() -> None:
    assert resealed(b"\x01m", b"\x01m") == MINIMAL
    assert vqz.unpack(metadata('{"a":"é"}'.encode())).header.metadata == {"a": "é"}


@pytest.mark.parametrize(
    "data",
    [
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x02\x81\x00\x01\x01\x01\x00"),  # height with a needless group
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x02\x01\x01\x01\x01\x01\x01"),  # the chunk is the grid
        resealed(b"\x01\x04\x01", b"\x02\x04\x01\x04\x01"),  # neighbouring runs alike
        resealed(b"\x01\x04\x01", b"\x01\x04\xff\xff\xff\xff\x0f"),  # four thousand million groups
        resealed(b"\x01\x04\x01", b"\x00"),  # no group
        resealed(b"\x01\x04\x01", b"\x01\x01\x01"),  # K = 1
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x02\x01\x01\x80\x80\x20\x80\x02\x01\x01"),  # 2^27 chunks
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x02\x01\x01\x80\x02\x01\x01\x01"),  # 256 chunks, 5 bytes of index
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x00\x01\x01\x01\x01\x00"),  # width 0
        resealed(b"\x02\x01\x01\x01\x01\x00", b"\x02\x01\x01\x00\x01\x00"),  # no rows
        resealed(b"\x01m", b"\x01M"),
        resealed(b"\x01m", b"\x03../"),
        resealed(b"\x01m", b"\x01\xff"),
        resealed(b"ABCDEFGH\x00", b"ABCDEFGH\x03ABCDEFGH"),  # prior flag 3
        resealed(b"\x3d\x2d\x66\x49", b"\x3d\x2d\x66\x49\x00"),  # a byte after the last field
        metadata(b"{}"),
        metadata(b"[]"),
        metadata(b'{"a": "b"}'),
        metadata(b'{"a":"b","a":"b"}'),
        metadata(b'{"a":1}'),
        metadata(b'{"a":"\\ud800"}'),
        metadata(b'{"a":"\xff"}'),
        metadata(b'{"a":"b"'),
        metadata(b"[" * 4000),
        metadata(b"1" * 4096),
        metadata(b'{"a":"' + b"x" * 4096 + b'"}'),
    ],
)
def test_headers_that_a_checksum_does_not_catch(data: bytes) -> None:
    with pytest.raises(BadFile):
        vqz.unpack(data, salvage=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": "text"},
        {"size": (70000, 16000)},
        {"size": (0, 16000, 1)},
        {"size": (2**36 + 1, 16000, 1)},
        {"size": (70000, 16000, 65)},
        {"modality": "image", "size": (2**20, 2**13, 3), "grid": (3, 1), "chunk": ()},
        {"grid": (300, 1)},
        {"grid": (0,)},
        {"grid": (2**32,)},
        {"chunk": (0,)},
        {"chunk": (10, 10)},
        {"grid": (2**21,), "chunk": (1,)},
        {"codebook_sizes": (1, 2, 2, 2)},
        {"codebook_sizes": (2, 2, 2, 2**18 + 1)},
        {"codebook_sizes": ()},
        {"codebook_sizes": (2, 2, 2)},
        {"codebook_sizes": (2, 3) * 200},
        {"levels": 0},
        {"levels": 65},
        {"levels": 1},
        {"codes_crcs": (1, 2**32)},
        {"model": ""},
        {"model": "m" * 65},
        {"model": "photo\n"},
        {"digest": b"\1" * 7},
        {"prior": b"\1" * 7},
        {"coder": 128},
        {"quality": 256},
        {"metadata": {"a": "x" * 4096}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": 1}},
        {"side_bytes": -1},
        {"side_bytes": 2**32 + 1},
        {**IMAGE, "residual": LosslessResidual(0, 0), "side_bytes": 4},
        {"residual": LosslessResidual(0, 0)},  # of sound
        {**IMAGE, "residual": LosslessResidual(128, 0)},
        {**IMAGE, "residual": LosslessResidual(0, 2**32)},
        {**IMAGE, "residual": LosslessResidual(0, 0), "grid": (2**10, 2**9), "chunk": (1, 1)},
    ],
)
def test_headers_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(BadFile):
        chunked(**changes)


def test_chunk_windows() -> None:
    assert MINIMAL_HEADER.chunk_windows() == [(slice(0, 1), slice(0, 1))]
    header = chunked()
    assert header.chunk_count == 3
    assert header.chunk_windows() == [(slice(0, 128),), (slice(128, 256),), (slice(256, 300),)]
    image = dataclasses.replace(MINIMAL_HEADER, grid=(3, 5), chunk=(2, 9))
    assert image.chunk == (2, 5)
    assert image.chunk_windows() == [(slice(0, 2), slice(0, 5)), (slice(2, 3), slice(0, 5))]
    assert dataclasses.replace(MINIMAL_HEADER, chunk=(512, 512)).chunk == ()


def test_a_photo_in_one_chunk_costs_at_most_64_bytes() -> None:
    photo = vqz.Header(
        modality="image",
        size=(768, 512, 3),
        grid=(64, 96),
        codebook_sizes=(1024,),
        levels=1,
        model="photo",
        digest=b"12345678",
        prior=b"12345678",
        coder=3,
        quality=10,
        codes_crcs=(2**32 - 1,),
    )
    assert len(vqz.pack(photo, [bytes(7000)])) - 7000 <= 64


def test_drop_levels() -> None:
    parsed = vqz.unpack(vqz.pack(chunked(), PAYLOADS))
    fewer = vqz.drop_levels(parsed, 1)
    assert fewer.header == chunked(levels=1, codebook_sizes=(512, 512), codes_crcs=(1,))
    assert fewer.payloads == PAYLOADS[:3]
    assert fewer.size_bytes == len(vqz.pack(fewer.header, fewer.payloads))
    assert vqz.drop_levels(parsed, 2) == parsed
    for keep in (0, 3):
        with pytest.raises(UsageError):
            vqz.drop_levels(parsed, keep)
    with pytest.raises(UsageError):
        parsed.payload(2, 0)


def test_a_remainder_makes_version_2() -> None:
    """The same bytes as MINIMAL but for the version, five bytes before the index, and a second record."""
    header = dataclasses.replace(MINIMAL_HEADER, residual=LosslessResidual(1, 0xAABBCCDD))
    fields = MINIMAL[8:-10] + b"\x01\xdd\xcc\xbb\xaa" + MINIMAL[-10:-5]
    fields += b"\x02" + zlib.crc32(b"no").to_bytes(4, "little")
    front = MINIMAL[:6] + b"\x02" + bytes([len(fields)]) + fields
    data = front + zlib.crc32(front).to_bytes(4, "little") + b"\xc0no"
    assert vqz.pack(header, [b"\xc0", b"no"]) == data
    parsed = vqz.unpack(data)
    assert parsed == vqz.Vqz(header, (b"\xc0", b"no"), (1, 2))
    assert (parsed.header.version, parsed.payload(0, 0), parsed.residual(0)) == (2, b"\xc0", b"no")
    fewer = vqz.drop_levels(parsed, 1)
    assert vqz.pack(fewer.header, fewer.payloads) == MINIMAL
    for file, chunk in ((parsed, 1), (parsed, -1), (fewer, 0)):
        with pytest.raises(UsageError, match="no residual"):
            file.residual(chunk)
    with pytest.raises(BadFile, match="2 payloads are needed, 1 are there"):
        vqz.pack(header, [b"\xc0"])


def test_salvage_keeps_a_file_whose_remainder_is_damaged() -> None:
    header, payloads = golden_files()["lossless"]
    data = vqz.pack(header, payloads)
    with pytest.raises(DamagedChunks, match="chunk 6 of 6 is damaged"):
        vqz.unpack(data[:-1] + b"?")
    saved = vqz.unpack(data[:-1] + b"?", salvage=True)
    assert saved.damaged == (5,)
    assert (saved.residual(0), saved.residual(1)) == (b"the first chunk", None)


def test_codes_crc() -> None:
    codes = np.arange(24).reshape(2, 3, 4)
    assert vqz.codes_crc(codes) == zlib.crc32(codes.astype("<u2").tobytes())
    assert vqz.codes_crc(codes.transpose(2, 1, 0).astype(np.uint8).T) == vqz.codes_crc(codes)
    assert vqz.codes_crc(np.full((1, 1), 65535)) == zlib.crc32(b"\xff\xff")
    for wrong in (np.zeros(3), np.array([-1]), np.array([65536])):
        with pytest.raises(BadFile):
            vqz.codes_crc(wrong)


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "speech.vqz"
    assert vqz.write(path, chunked(), PAYLOADS) == path.stat().st_size
    assert vqz.read(path).payloads == PAYLOADS
    assert vqz.read_header(path) == (chunked(), tuple(map(len, PAYLOADS)))
    with pytest.raises(UsageError):
        vqz.write(path, chunked(), PAYLOADS)
    vqz.write(path, MINIMAL_HEADER, [b"\xc0"], force=True)
    assert path.read_bytes() == MINIMAL
    assert list(tmp_path.iterdir()) == [path]


def test_messages_of_read_begin_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "photo.vqz"
    os.mkfifo(tmp_path / "pipe")
    for missing in (path, tmp_path, path / "x" / ("y" * 300), tmp_path / "pipe"):
        with pytest.raises(BadFile, match=f"^{tmp_path}"):
            vqz.read(missing)
    path.write_bytes(MINIMAL[:-1] + b"\0")
    with pytest.raises(DamagedChunks, match=rf"^{path}: chunk 1 of 1 is damaged") as caught:
        vqz.read(path)
    assert caught.value.chunks == (0,)
    assert vqz.read(path, salvage=True).damaged == (0,)
    assert vqz.read_header(path)[1] == (1,)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(BadFile, match=rf"^{path}: not a \.vqz file \(starts with PNG\)"):
        vqz.read_header(path)


def test_a_promised_length_is_not_allocated() -> None:
    index = bytes(4)
    data = resealed(b"\x01\x3d\x2d\x66\x49", b"\xff\xff\xff\x7f" + index)

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 <= size <= len(data)
            return super().read(size)

    assert vqz._unpack(Watched(data), salvage=True).damaged == (0,)


def test_files_above_4_gib_are_refused() -> None:
    with pytest.raises(BadFile, match="larger"):
        vqz.unpack(resealed(b"\x01\x3d\x2d\x66\x49", b"\xff\xff\xff\xff\x0f\0\0\0\0"))


def test_import_is_light() -> None:
    code = "import sys, vqcli.container.vqz; print(sorted({'numpy', 'torch', 'numba'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def golden_files() -> dict[str, tuple[vqz.Header, tuple[bytes, ...]]]:
    photo = vqz.Header(
        modality="image",
        size=(768, 512, 3),
        grid=(64, 96),
        codebook_sizes=(1024,),
        levels=1,
        model="photo",
        digest=bytes(range(8)),
        coder=0,
        quality=15,
        codes_crcs=(0x12345678,),
        metadata={"title": "Süd", "a": '"\\\n'},
    )
    video = vqz.Header(
        modality="video",
        size=(64, 48, 10, 29970),
        grid=(10, 6, 8),
        chunk=(4, 6, 8),
        codebook_sizes=(65536, 2),
        levels=1,
        model="clip-2.1_b",
        digest=bytes(range(248, 256)),
        prior=b"priorsha",
        coder=3,
        codes_crcs=(2**32 - 1,),
    )
    lossless = dataclasses.replace(
        photo,
        size=(24, 16, 3),
        grid=(2, 3),
        chunk=(2, 2),
        codebook_sizes=(16, 16),
        levels=2,
        codes_crcs=(5, 6),
        residual=LosslessResidual(0, 0x89ABCDEF),
    )
    uneven = dataclasses.replace(
        chunked(),
        grid=(7,),
        chunk=(4,),
        codebook_sizes=(4096,) * 7,
        levels=3,
        uneven=(1, 2, 4),
        model="snac-24khz",
        codes_crcs=(7, 8, 9),
    )
    wide = dataclasses.replace(
        photo, size=(24, 16, 3), grid=(2, 3), codebook_sizes=(65536, 65537, 64, 2**18), levels=2, model="lfq-18",
        codes_crcs=(3, 4),
    )  # fmt: skip
    sides = dataclasses.replace(
        chunked(), size=(95_700, 48_000, 2), grid=(302,), chunk=(150,), side_bytes=12, codebook_sizes=(1024,) * 2
    )
    with_sides = [vqz.with_side(bytes(range(n, n + 4)), b"coded"[: n % 5]) for n in (0, 4, 8)]
    return {
        "wide": (wide, (b"first level", b"second")),
        "sides": (sides, (*with_sides, b"", b"5", b"66")),
        "uneven": (uneven, (b"a", b"", b"ccc", b"dddd", b"e", b"ff")),
        "lossless": (lossless, (b"1", b"22", b"", b"4444", b"the first chunk", b"the other")),
        "photo": (photo, (bytes(range(256)),)),
        "speech": (chunked(), PAYLOADS),
        "video": (video, (b"first", b"", b"\0" * 20)),
    }


def as_json(parsed: vqz.Vqz) -> dict[str, object]:
    """The content of a file in JSON's types, bytes as hexadecimal digits."""
    content = dataclasses.asdict(parsed.header) | {"payloads": list(parsed.payloads)}
    for younger in ("joint", "residual", "uneven", "side_bytes"):  # than the first golden files
        if not content[younger]:
            del content[younger]
    if "residual" in content:  # the golden files keep the name of their day
        content["remainder"] = content.pop("residual")
    return json.loads(json.dumps(content, default=bytes.hex))


@pytest.mark.parametrize("name", golden_files())
def test_golden_files_read_the_same_for_ever(name: str, regen: bool) -> None:
    path = GOLDEN / f"{name}.vqz"
    if regen:
        vqz.write(path, *golden_files()[name], force=True)
        text = json.dumps(as_json(vqz.read(path)), indent=2, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    parsed = vqz.read(path)
    assert as_json(parsed) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert vqz.pack(parsed.header, parsed.payloads) == path.read_bytes()


def test_one_digest_may_name_model_and_prior():
    header, payloads = golden_files()["photo"]
    joint = dataclasses.replace(header, prior=b"", joint=True)
    apart = dataclasses.replace(header, prior=b"priorsha")
    assert vqz.unpack(vqz.pack(joint, payloads)).header == joint
    assert len(vqz.pack(joint, payloads)) == len(vqz.pack(apart, payloads)) - 8
    with pytest.raises(BadFile, match="named twice"):
        dataclasses.replace(apart, joint=True)


def test_levels_with_numbers_of_groups_of_their_own():
    header, payloads = golden_files()["uneven"]
    data = vqz.pack(header, payloads)
    assert header.version == data[6] == 3 and header.level_groups == (1, 2, 4)
    assert [header.groups_of(level) for level in range(3)] == [slice(0, 1), slice(1, 3), slice(3, 7)]
    fewer = vqz.drop_levels(vqz.unpack(data), 2)
    assert fewer.header.uneven == (1, 2) and fewer.header.groups == 3
    least = vqz.drop_levels(fewer, 1).header
    assert least.version == 1 and least.uneven == ()
    even = dataclasses.replace(header, codebook_sizes=(4096,) * 6, uneven=(2, 2, 2))
    assert even.version == 1 and even == dataclasses.replace(even, uneven=())
    for counts in ((1, 2), (1, 2, 5), (0, 3, 4), (3, -1, 5)):
        with pytest.raises(BadFile):
            dataclasses.replace(header, uneven=counts)
    with pytest.raises(BadFile, match="residual"):
        dataclasses.replace(golden_files()["lossless"][0], codebook_sizes=(16,) * 3, uneven=(1, 2))


def test_codebooks_of_more_than_two_bytes():
    header, payloads = golden_files()["wide"]
    data = vqz.pack(header, payloads)
    assert header.version == data[6] == 3 and header.uneven == () and header.level_groups == (2, 2)
    assert vqz.unpack(data).header == header
    narrow = dataclasses.replace(header, codebook_sizes=(65536, 2, 64, 2))
    assert narrow.version == 1
    unequal = dataclasses.replace(header, uneven=(1, 3))
    assert vqz.unpack(vqz.pack(unequal, payloads)).header.level_groups == (1, 3)
    assert vqz.drop_levels(vqz.unpack(vqz.pack(unequal, payloads)), 1).header.version == 1
    with pytest.raises(BadFile, match="codebook size"):
        dataclasses.replace(header, codebook_sizes=(2**18 + 1,) * 4)
    with pytest.raises(BadFile, match="residual"):
        dataclasses.replace(header, residual=LosslessResidual(0, 1))


def test_codes_are_summed_up_by_codebook():
    """So that dropping a level changes no sum of those that stay; a codebook of two bytes as ever."""
    codes = np.array([[[1, 65_535]], [[7, 2**18 - 1]]])
    expected = zlib.crc32(codes[0].astype("<u2").tobytes() + codes[1].astype("<u4").tobytes())
    assert vqz.codes_crc(codes, (65_536, 2**18)) == expected
    assert (
        vqz.codes_crc(codes[:1], (65_536,)) == vqz.codes_crc(codes[:1]) == zlib.crc32(codes[0].astype("<u2").tobytes())
    )
    with pytest.raises(BadFile, match="not in"):
        vqz.codes_crc(codes)


def test_a_later_version_than_needed_is_refused():
    """Equal numbers are those of version 1: a file has one spelling."""
    header, payloads = golden_files()["uneven"]
    data = bytearray(vqz.pack(header, payloads))
    counts = bytes([1, 2, 4])
    at = data.index(counts + (7).to_bytes(4, "little"))
    data[at : at + 3] = bytes([2, 2, 3])
    front = len(data) - sum(map(len, payloads)) - 4
    data[front : front + 4] = zlib.crc32(data[:front]).to_bytes(4, "little")
    assert vqz.unpack(bytes(data)).header.uneven == (2, 2, 3)  # the checksum is right again
    even = bytearray(vqz.pack(dataclasses.replace(header, codebook_sizes=(4096,) * 6, uneven=()), payloads))
    even[6] = 3
    front = len(even) - sum(map(len, payloads)) - 4
    even[front : front + 4] = zlib.crc32(even[:front]).to_bytes(4, "little")
    with pytest.raises(BadFile):
        vqz.unpack(bytes(even))


def test_side_information_stands_with_the_first_level():
    header, payloads = golden_files()["sides"]
    data = vqz.pack(header, payloads)
    parsed = vqz.unpack(data)
    assert header.version == data[6] == 4 and parsed.header == header
    assert [parsed.side(n) for n in range(3)] == [bytes((0, 1, 2, 3)), bytes((4, 5, 6, 7)), bytes((8, 9, 10, 11))]
    assert [parsed.payload(0, n) for n in range(3)] == [b"", b"code", b"cod"] and parsed.payload(1, 2) == b"66"
    fewer = vqz.drop_levels(parsed, 1)
    assert fewer.header.version == 4 and fewer.side(2) == parsed.side(2)
    assert vqz.unpack(vqz.pack(fewer.header, fewer.payloads)) == fewer
    uneven = dataclasses.replace(header, codebook_sizes=(1024,) * 3, uneven=(1, 2))
    assert vqz.unpack(vqz.pack(uneven, payloads)).header == uneven
    with pytest.raises(UsageError, match="no chunk 3"):
        parsed.side(3)
    assert vqz.unpack(MINIMAL).side(0) == b""


def test_side_information_is_lost_with_its_chunk_alone():
    header, payloads = golden_files()["sides"]
    data = bytearray(vqz.pack(header, payloads))
    data[len(data) - sum(map(len, payloads[1:])) + 2] ^= 1  # in the side information of the second chunk
    with pytest.raises(DamagedChunks, match="chunk 2 of 6"):
        vqz.unpack(bytes(data))
    saved = vqz.unpack(bytes(data), salvage=True)
    assert saved.side(0) == bytes((0, 1, 2, 3)) and saved.side(1) is None and saved.payload(0, 1) is None


@pytest.mark.parametrize("first", [b"", b"\x05abcd", b"\x03abc", b"\x05abcde", b"\xff\xff\xff\xff\x0f", b"\x80"])
def test_side_information_that_is_not_what_the_header_says(first):
    header, payloads = golden_files()["sides"]
    with pytest.raises(BadFile):
        vqz.pack(header, (first, *payloads[1:]))
    payloads = (first, *payloads[1:])
    data = vqz._front(header, [(len(each), zlib.crc32(each)) for each in payloads]) + b"".join(payloads)
    for salvage in (False, True):
        with pytest.raises(BadFile, match="side information"):
            vqz.unpack(data, salvage=salvage)
