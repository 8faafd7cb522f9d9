"""What every coder of the table keeps to; a file that is put beside the others is tested along with them."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vqcli
from tests.codec.test_image_file import put_prior
from tests.entropy import test_prior1d, test_prior2d
from tests.entropy.test_coders import random_codes, random_statistics
from vqcli.entropy import coders
from vqcli.entropy.coders import Coder, Given
from vqcli.errors import BadFile, ModelError, UsageError, VqError
from vqcli.zoo import loading

QUALITY = 17  # which the scalar net has
LARGEST_SCALAR = 10_000  # larger codebooks are beyond the tables of the scalar net
GRIDS = [(19,), (1,), (6, 7), (1, 9), (3, 4, 5)]
SIZES = [(7, 7, 7), (9, 2, 300), (1,), (5, 1, 8), (65536, 3)]

every_coder = pytest.mark.parametrize("name", coders.table())


def variants(name: str, codes: np.ndarray, sizes: tuple[int, ...]) -> list[Given]:
    """All that a coder may be given for such codes, which it can be used with."""
    coder = coders.get(name)
    tables = [random_statistics(0, codes, list(sizes), weighted, contexts=2) for weighted in (False, True)]
    if not coder.USES_NET:
        return [Given(sizes, each) for each in (tables if coder.NEEDS_STATISTICS else [*tables, None])]
    kinds = ["vector", "scalar"] if max(sizes) <= LARGEST_SCALAR else ["vector"]
    nets = [test_prior1d.tiny_net(sizes=sizes), *(test_prior2d.tiny_net(kind, sizes=sizes) for kind in kinds)]
    below = random_codes(9, list(sizes[:1]), codes.shape[1:], 0)
    upper = Given(sizes[1:], tables[0].of_groups(1, len(sizes)), nets[0], QUALITY, below)
    return [Given(sizes, tables[0], net, QUALITY) for net in nets] + ([upper] if len(sizes) > 1 else [])


@every_coder
def test_a_coder_has_what_the_contract_lists(name):
    coder = coders.get(name)
    assert isinstance(coder, Coder) and coders.name_of(coder.ID) == name
    assert Path(coder.__file__).stem == name
    for function in ("usable", "encode", "decode"):
        _, *wanted = inspect.signature(getattr(Coder, function)).parameters.values()
        found = inspect.signature(getattr(coder, function))
        assert list(found.parameters.values()) == wanted
        assert found.return_annotation == inspect.signature(getattr(Coder, function)).return_annotation


@every_coder
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_codes_come_back(name, grid, sizes):
    for skew in (0, 9):
        codes = random_codes(1, list(sizes), grid, skew)
        codes.reshape(len(sizes), -1)[:, 0] = np.array(sizes) - 1
        for given in variants(name, codes, sizes):
            part = codes[-len(given.codebook_sizes) :]
            before = part.copy()
            assert coders.get(name).usable(given)
            data = coders.encode(name, part.astype(np.uint16), given)
            decoded = coders.decode(name, data, part.shape, given)
            assert decoded.dtype == np.int32 and np.array_equal(decoded, part)
            assert coders.encode(name, part, given) == data  # of other integers, and a second time
            assert np.array_equal(part, before)


@every_coder
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("grid", [(19,), (4, 5), (2, 3, 4)], ids=str)
def test_other_bytes_are_a_bad_file_or_other_codes(name, grid, sizes):
    codes = random_codes(2, list(sizes), grid, 1)
    draw = np.random.default_rng(0)
    for given in variants(name, codes, sizes):
        part = codes[-len(given.codebook_sizes) :]
        data = coders.encode(name, part, given)
        wrong = [data[:length] for length in range(0, len(data), 1 + len(data) // 12)]
        wrong += [data + b"\0", data + bytes(40), *(draw.bytes(length) for length in (1, 7, 60, len(data)))]
        wrong += [b"\xff" * len(data), bytes(len(data)), b"\xff" * 30]
        for stream in wrong:
            try:
                decoded = coders.decode(name, stream, part.shape, given)
            except BadFile:
                continue
            assert decoded.shape == part.shape and decoded.min() >= 0
            assert all(group.max() < K for group, K in zip(decoded, given.codebook_sizes, strict=True))


@every_coder
def test_what_a_coder_needs(name):
    coder, nothing = coders.get(name), Given((5, 6))
    needy = coder.USES_NET or coder.NEEDS_STATISTICS
    assert coder.usable(nothing) != needy and (name in coders.candidates("auto", nothing)) != needy
    assert coders.candidates(name, nothing) == [name]  # who names a coder is told what it lacks
    if needy:
        with pytest.raises(UsageError):
            coders.encode(name, np.zeros((2, 3, 3), np.int32), nothing)


def test_a_net_that_covers_no_levels_is_for_all_groups_at_once():
    sizes, prior = (7, 7), coders.get("prior")
    assert prior.usable(Given(sizes, net=test_prior2d.tiny_net("vector", sizes=sizes)))
    assert not prior.usable(Given(sizes[:1], net=test_prior2d.tiny_net("vector", sizes=sizes)))
    assert prior.usable(Given(sizes[:1], net=test_prior1d.tiny_net(sizes=sizes)))


def test_the_table_is_in_the_order_of_numbers_and_loads_nothing_heavy():
    script = (
        "import sys\nfrom vqcli.entropy import coders\n"
        "print(*coders.names())\nprint(*sorted({'torch', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{' '.join(map(str, sorted(coders.names())))}\n\n"


# ---------------------------------------------------------------- a coder that is dropped in

TOY = '''
"""Two bytes a code, deflated."""

import zlib

import numpy as np

from vqcli.entropy.coders import Given
from vqcli.errors import BadFile

ID = 100
USES_NET = False
NEEDS_STATISTICS = False


def usable(given: Given) -> bool:
    return False  # so `auto` never takes it


def encode(codes: np.ndarray, given: Given) -> bytes:
    return zlib.compress(codes.astype("<u2").tobytes())


def decode(data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    try:
        return np.frombuffer(zlib.decompress(data), "<u2").reshape(shape).astype(np.int32)
    except (zlib.error, ValueError) as error:
        raise BadFile("these are no toy codes") from error
'''


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """drop(name, source): a file beside the coders, in a folder of its own."""
    names = []

    def make(name: str, source: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(coders, "__path__", [*coders.__path__, str(folder)])
        names.append(name)
        return folder / f"{name}.py"

    yield make
    for name in names:
        sys.modules.pop(f"{coders.__name__}.{name}", None)
        vars(coders).pop(name, None)


def test_a_file_joins_the_table(drop):
    drop("toy", TOY)
    assert list(coders.table()) == ["packed", "histogram", "adaptive", "prior", "toy"]
    assert coders.name_of(100) == "toy" and "toy" not in coders.candidates("auto", Given((5,)))
    codes, given = random_codes(0, [5, 9], (6, 7), 0), Given((5, 9))
    data = coders.encode("toy", codes, given)
    assert np.array_equal(coders.decode("toy", data, codes.shape, given), codes)
    with pytest.raises(BadFile, match="toy"):
        coders.decode("toy", data[:-1], codes.shape, given)


def test_a_file_leaves_the_table(drop, monkeypatch):
    drop("toy", TOY)
    assert "toy" in coders.table()
    monkeypatch.setattr(coders, "__path__", coders.__path__[:1])
    with pytest.raises(BadFile, match="coder 100"):
        coders.name_of(100)


def test_pictures_are_coded_by_a_file_that_joined(drop, vector_model, picture):
    pixels, packed = picture(21, 30), vqcli.encode(picture(21, 30), vector_model, coder="packed")
    with pytest.raises(UsageError, match="toy"):
        vqcli.encode(pixels, vector_model, coder="toy")
    drop("toy", TOY)
    encoded = vqcli.encode(pixels, vector_model, coder="toy")
    assert encoded.header.coder == 100 and not encoded.header.joint
    assert np.array_equal(encoded.codes, packed.codes)
    decoded = vqcli.decode(encoded.data, vector_model)
    assert np.array_equal(decoded.pixels, vqcli.decode(packed.data, vector_model).pixels)


def test_files_of_a_coder_that_uses_the_net_name_it(drop, make_model, scalar_model, picture, tmp_path):
    """Whatever its name is."""
    drop("second", "from vqcli.entropy.coders.prior import *\n\nID = 101\n")
    model = make_model("with-prior", tmp_path, **scalar_model.info.description["arguments"])
    with pytest.raises(UsageError, match="prior"):
        vqcli.encode(picture(21, 30), model, coder="second")
    put_prior(model, seed=1)
    model = loading.load(model.info, "cpu")
    first, second = (vqcli.encode(picture(21, 30), model, coder=name) for name in ("prior", "second"))
    assert second.header == replace(first.header, coder=101) and second.header.joint
    assert second.payloads == first.payloads
    assert np.array_equal(vqcli.decode(second.data, model).pixels, vqcli.decode(first.data, model).pixels)
    with pytest.raises(ModelError):
        vqcli.decode(second.data, scalar_model)


def test_two_coders_with_one_number(drop):
    first, second = drop("toy", TOY), drop("teddy", TOY)
    with pytest.raises(VqError) as caught:
        coders.table()
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    assert "coder 100" in str(caught.value)


@pytest.mark.parametrize(
    "source", [TOY.replace("ID = 100", ""), TOY.replace("ID = 100", "ID = 128"), TOY.replace("def decode", "def undo")]
)
def test_a_file_that_is_no_coder(drop, source):
    path = drop("toy", source)
    with pytest.raises(VqError, match="no coder") as caught:
        coders.table()
    assert str(path) in str(caught.value)
