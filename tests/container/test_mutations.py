"""Any header survives the round trip; any damage ends in BadFile."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcli.container import vqz
from vqcli.container.header import LARGEST_K, NARROW_K, LosslessResidual
from vqcli.errors import BadFile

FUZZ = runpy.run_path(str(Path(__file__).parents[1] / "fuzz_vqz.py"))
SIZES = {
    "image": st.tuples(st.integers(1, 4096), st.integers(1, 2**20), st.integers(1, 4)),
    "audio": st.tuples(st.integers(1, 2**36), st.integers(1, 2**20), st.integers(1, 64)),
    "video": st.tuples(st.integers(1, 4096), st.integers(1, 2**20), st.integers(1, 2**24), st.integers(1, 2**20)),
}
RESIDUAL_CODERS = st.builds(LosslessResidual, st.integers(0, 127), st.integers(0, 2**32 - 1))
DIMS = {"image": 2, "audio": 1, "video": 3}


@st.composite
def files(draw: st.DrawFn) -> tuple[vqz.Header, tuple[bytes, ...]]:
    modality = draw(st.sampled_from(sorted(SIZES)))
    levels = draw(st.integers(1, 4))
    groups = levels * draw(st.integers(1, 3))
    residual = draw(st.none() | RESIDUAL_CODERS) if modality == "image" else None
    sizes = st.integers(2, NARROW_K if residual else LARGEST_K)
    sides = st.lists(st.integers(1, 9), min_size=DIMS[modality], max_size=DIMS[modality]).map(tuple)
    header = vqz.Header(
        modality=modality,
        size=draw(SIZES[modality]),
        grid=draw(sides),
        chunk=draw(st.just(()) | sides.map(lambda shape: tuple(side + 1 for side in shape))),
        codebook_sizes=tuple(draw(st.lists(sizes, min_size=groups, max_size=groups))),
        levels=levels,
        model=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
        digest=draw(st.binary(min_size=8, max_size=8)),
        coder=draw(st.integers(0, 127)),
        quality=draw(st.integers(0, 255)),
        prior=draw(st.just(b"") | st.binary(min_size=8, max_size=8)),
        codes_crcs=tuple(draw(st.lists(st.integers(0, 2**32 - 1), min_size=levels, max_size=levels))),
        metadata=draw(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4)),
        residual=residual,
    )
    seeds = draw(st.binary(max_size=200))
    payloads = [seeds[: number % 201] for number in range(header.records)]
    sides = [seeds[: number % 5] for number in range(header.chunk_count)]
    if header.residual or not draw(st.booleans()) or not any(sides):
        return header, tuple(payloads)
    first = map(vqz.with_side, sides, payloads)
    return replace(header, side_bytes=sum(map(len, sides))), (*first, *payloads[header.chunk_count :])


@given(files())
@settings(max_examples=60, deadline=None)
def test_unpack_inverts_pack(file: tuple[vqz.Header, tuple[bytes, ...]]) -> None:
    header, payloads = file
    data = vqz.pack(header, payloads)
    parsed = vqz.unpack(data)
    assert (parsed.header, parsed.payloads, parsed.size_bytes) == (header, payloads, len(data))
    assert parsed == vqz.unpack(data, salvage=True)


@given(files(), st.data())
@settings(max_examples=60, deadline=None)
def test_dropping_levels_leaves_a_valid_file(file: tuple[vqz.Header, tuple[bytes, ...]], data: st.DataObject) -> None:
    parsed = vqz.unpack(vqz.pack(*file))
    keep = data.draw(st.integers(1, parsed.header.levels))
    fewer = vqz.drop_levels(parsed, keep)
    assert vqz.unpack(vqz.pack(fewer.header, fewer.payloads)) == fewer
    assert fewer.payloads == parsed.payloads[: len(fewer.payloads)]
    wide = max(fewer.header.codebook_sizes) > NARROW_K
    assert fewer.header.version == (4 if parsed.header.side_bytes else 3 if wide else 1)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", vqz.MAGIC, vqz.MAGIC + b"\1", vqz.MAGIC + b"\2", vqz.MAGIC + b"\3"]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_noise_is_a_bad_file(noise: bytes, prefix: bytes, salvage: bool) -> None:
    with pytest.raises(BadFile):
        vqz.unpack(prefix + noise, salvage=salvage)


@given(st.binary(max_size=300), st.integers(0, 4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_noise_behind_a_fitting_checksum_is_a_bad_file(noise: bytes, version: int, salvage: bool) -> None:
    with pytest.raises(BadFile):
        vqz.unpack(FUZZ["seal"](noise, version), salvage=salvage)


def test_random_mutations() -> None:
    tally = FUZZ["fuzz"](500, seed=0)
    assert sum(tally.values()) == 500
    outcomes = {outcome for _, outcome in tally}
    assert {"BadFile", "DamagedChunks", "read"} <= outcomes  # the mutations reach each way out
