"""The second decoder, written from FORMAT.md alone, reads what vq writes: so the document is complete."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests import second_decoder
from tests.container.test_vqz import GOLDEN, MINIMAL
from tests.entropy.test_context import GOLDEN_BYTES, GOLDEN_CODES, GOLDEN_STATISTICS, SIZES
from vqcli.codec import chunks
from vqcli.container import vqz

pytestmark = pytest.mark.fault("21 second decoder")


def variant(header: vqz.Header | None = None, levels: int = 1, **fields: object) -> vqz.Header:
    """A header with so many levels; that of three codebooks of audio in three chunks, or another with changes."""
    fields |= {"levels": levels, "codes_crcs": (0,) * levels}
    if header:
        return replace(header, **fields)
    size, grid, chunk, sizes = (70000, 16000, 1), (30,), (11,), (9, 16, 5)
    common = {"size": size, "grid": grid, "chunk": chunk, "codebook_sizes": sizes, "digest": b"\1" * 8}
    return vqz.Header(modality="audio", model="m", coder=0, **common, **fields)


AUDIO = variant()
IMAGE = variant(AUDIO, modality="image", size=(70, 30, 3), grid=(6, 9), chunk=(4, 5))
STEREO = variant(AUDIO, metadata={"loudness_db": "-20.0,-21.5"}, codebook_sizes=(9, 16, 5) * 2)
HEADERS = {
    "image": IMAGE,
    "levels": variant(IMAGE, 3, chunk=()),
    "audio": AUDIO,
    "video": variant(IMAGE, 3, modality="video", size=(70, 30, 7, 25000), grid=(7, 6, 4), chunk=(3, 6, 4)),
    "stereo": STEREO,
    "stereo, levels": variant(STEREO, 3, codebook_sizes=(9, 9, 16, 16, 5, 5)),
    "uneven": variant(AUDIO, 2, uneven=(1, 2)),
    "uneven stereo": variant(STEREO, 2, uneven=(2, 4), codebook_sizes=(9, 9, 16, 5, 16, 5)),
    "side information": variant(AUDIO, side_bytes=3),
    "side information, uneven": variant(AUDIO, 2, side_bytes=3, uneven=(2, 1)),
}


def packed(header: vqz.Header, coder: str, statistics: object = GOLDEN_STATISTICS) -> tuple[bytes, np.ndarray]:
    """A file of random codes that are more often small, and the codes [groups, *grid]."""
    generator = np.random.default_rng(5)
    sizes = np.array(header.codebook_sizes).reshape(-1, *[1] * len(header.grid))
    codes = (sizes * generator.random((header.groups, *header.grid)) ** 3).astype(np.uint32)
    crcs = tuple(
        vqz.codes_crc(codes[header.groups_of(level)], header.codebook_sizes[header.groups_of(level)])
        for level in range(header.levels)
    )
    header = replace(header, codes_crcs=crcs)
    model = SimpleNamespace(statistics=statistics, entropy_model=None)
    channels = header.metadata.get("loudness_db", "").count(",") + 1
    sides = [b"abc"] + [b""] * (header.chunk_count - 1) if header.side_bytes else ()
    return vqz.pack(*chunks.pack(model, header, codes, channels=channels, coder=coder, sides=sides)), codes


def tables(statistics: object) -> second_decoder.Tables:
    return second_decoder.Tables(**{name: array.tolist() for name, array in statistics.arrays().items()})


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.vqz")), ids=lambda path: path.stem)
def test_golden_files_say_what_their_json_says(path: Path) -> None:
    file = second_decoder.read(path.read_bytes())
    golden = json.loads(path.with_suffix(".json").read_text())
    assert [payload.hex() for payload in file.payloads] == golden["payloads"]
    assert file.digest.hex() == golden["digest"] and file.prior.hex() == golden["prior"]
    for name in ("size", "grid", "chunk", "codes_crcs"):
        assert list(getattr(file, name)) == golden[name]
    for name in ("modality", "codebook_sizes", "model", "coder", "quality", "metadata"):
        assert getattr(file, name) == golden[name]
    assert file.side_bytes == golden.get("side_bytes", 0)
    assert sum(file.books) == len(file.codebook_sizes) and len(file.books) == golden["levels"]
    assert file.books == golden.get("uneven", file.books)
    residual = golden.get("remainder")
    assert file.residual == ((residual["coder"], residual["pixels_crc"]) if residual else None)
    if file.version == 4:
        assert b"".join(second_decoder.split_side(file)[0]) == bytes(range(12))


def test_the_worked_example() -> None:
    assert second_decoder.decode(second_decoder.read(MINIMAL)) == [[3]]


@pytest.mark.parametrize(("coder", "counts"), GOLDEN_BYTES)
def test_golden_bytes(coder: str, counts: bool) -> None:
    data = bytes.fromhex(GOLDEN_BYTES[coder, counts])
    known = tables(GOLDEN_STATISTICS) if counts else second_decoder.without_tables(SIZES)
    decoded = second_decoder.decode_context(data, 3, 4, SIZES, known, adaptive=coder == "adaptive")
    assert decoded == GOLDEN_CODES.tolist()


@pytest.mark.parametrize("coder", ["packed", "histogram", "adaptive"])
@pytest.mark.parametrize("kind", HEADERS)
def test_codes_come_back(kind: str, coder: str) -> None:
    data, codes = packed(HEADERS[kind], coder)
    file = second_decoder.read(data)
    assert second_decoder.decode(file, tables(GOLDEN_STATISTICS)) == codes.reshape(len(codes), -1).tolist()


def test_all_versions_are_among_them() -> None:
    versions = {second_decoder.read(packed(header, "packed")[0]).version for header in HEADERS.values()}
    assert versions == {1, 3, 4}


def test_adaptive_without_tables_halves_its_counts() -> None:
    header = variant(IMAGE, 2, grid=(40, 40), chunk=(), codebook_sizes=(3, 2))
    data, codes = packed(header, "adaptive", statistics=None)
    assert second_decoder.decode(second_decoder.read(data)) == codes.reshape(2, -1).tolist()


@pytest.mark.parametrize("coder", ["packed", "adaptive"])
def test_wide_codebooks(coder: str) -> None:
    header = variant(IMAGE, 2, grid=(2, 3), chunk=(), codebook_sizes=(65537, 4, 2**18, 65536))
    data, codes = packed(header, coder, statistics=None)
    file = second_decoder.read(data)
    assert file.version == 3
    assert second_decoder.decode(file) == codes.reshape(4, -1).tolist()


def test_a_lossless_file(vector_model, picture) -> None:
    from vqcli.codec import image

    encoded = image.encode(picture(24, 17), vector_model, lossless=True, coder="adaptive")
    known = second_decoder.read_tables(vector_model.info.path.read_bytes())
    file = second_decoder.read(vqz.pack(encoded.header, encoded.payloads))
    assert (file.version, file.residual[0] in (0, 1)) == (2, True)
    assert second_decoder.decode(file, known) == encoded.codes.reshape(len(encoded.codes), -1).tolist()


def test_damage_is_refused() -> None:
    data, _ = packed(IMAGE, "packed")
    for at in range(len(data)):
        with pytest.raises(second_decoder.Refused):
            second_decoder.read(data[:at])
        with pytest.raises(second_decoder.Refused):
            second_decoder.read(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
