"""What every format of shards does, whichever there are: a new one joins by being there."""

import numpy as np
import pytest

from vqcli.errors import BadFile
from vqcli.tokens import formats
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row

PLAN = Plan(
    model="m", digest="00" * 8, modality="image", format="npz", per_shard=9, batch_pixels=1, codebook_sizes=(9, 70_000),
    columns={"label": "int", "text": "str", "score": "float"},
)  # fmt: skip


@pytest.fixture(params=formats.names())
def format(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return formats.of(request.param)


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    shapes = [(2, 3, 4), (2, 1, 1), (2, 3, 4)]
    labels = [
        {"label": 2**40, "text": "ä\n", "score": 0.1},
        {"label": None, "text": None, "score": None},
        {"label": -1, "text": "", "score": 1e300},
    ]
    return [
        Row(f"a.b/%2E {n}.png", draw.integers(0, 9, shape).astype(np.uint32), (n, 5, 3), b'{"quality":7}', labels[n])
        for n, shape in enumerate(shapes)
    ]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.key, a.size, a.side, a.labels) == (b.key, b.size, b.side, b.labels)
        assert a.codes.dtype == b.codes.dtype and np.array_equal(a.codes, b.codes)


def test_rows_come_back_and_equal_rows_are_equal_bytes(format, rows):
    data = format.dump(rows, PLAN)
    same(format.load(data), rows)
    assert format.dump(rows, PLAN) == data
    assert format.load(format.dump([], PLAN)) == []


@pytest.mark.fault("21 damaged shard")
def test_damage_is_a_bad_file(format, rows):
    """Cut anywhere, or with bytes changed: rows or a BadFile, nothing else."""
    data = format.dump(rows, PLAN)
    draw = np.random.default_rng(0)
    for number in range(300):
        broken = bytearray(data)
        if number % 3 == 0:
            del broken[int(draw.integers(len(data))) :]
        for at in draw.integers(0, len(broken) or 1, 1 + number % 4):
            if broken:
                broken[at % len(broken)] = draw.integers(256)
        try:
            format.load(bytes(broken))
        except BadFile:
            pass


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_webdataset_reads(rows, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "shard-000000.tar").write_bytes(formats.of("webdataset").dump(rows, PLAN))
    read = list(webdataset.WebDataset(str(tmp_path / "shard-000000.tar"), shardshuffle=False).decode())
    assert [sample["json"]["key"] for sample in read] == [row.key for row in rows]
    assert [sample["__key__"] for sample in read] == [f"a%2Eb/%252E {n}%2Epng" for n in range(3)]
    for sample, row in zip(read, rows, strict=True):
        assert np.array_equal(sample["npy"], row.codes) and sample["json"]["labels"] == row.labels
