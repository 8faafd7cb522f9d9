import numpy as np
import pytest

from vqcli.entropy import coders, context, statistics
from vqcli.entropy.coders import Given
from vqcli.entropy.statistics import Statistics
from vqcli.errors import BadFile, UsageError

SIZES = [9, 16, 5]


def smooth_codes(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Codes [3, height, width] like those of a picture: near their neighbours, livelier in places, groups alike."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((3, height + 4, width + 4))
    blurred = sum(noise[:, y : y + height, x : x + width] for y in range(5) for x in range(5)) / 5
    lively = np.linspace(0.3, 2, width)
    sizes = np.array(SIZES)[:, None, None]
    return (
        (blurred * lively + 0.3 * noise[:, :height, :width] + (sizes - 1) // 2).round().clip(0, sizes - 1).astype(int)
    )


@pytest.fixture(scope="module")
def fitted() -> Statistics:
    weights = {
        "mean": np.array([[40, 40, -20, 3], [32, 32, 0, 0], [0, 0, 0, 0]]),
        "own": np.array([[30, 30, 10, 10], [1, 2, 3, 4], [64, 64, 0, 0]]),
        "earlier": np.array([[0, 0, 0], [20, 0, 0], [5, 33, 0]]),
    }
    return statistics.fit([smooth_codes(40, 50, seed) for seed in (1, 2)], SIZES, weights=weights, energies=6)


def by_hand(codes: np.ndarray, s: Statistics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, energies and contexts [G, H, W], written down again from the docstring of statistics.py."""
    leans = s.counts.shape[1] // (s.thresholds.shape[1] + 1)
    _, H, W = codes.shape
    middle = (np.array(SIZES) - 1) // 2
    values = codes - middle[:, None, None]

    def value(g: int, y: int, x: int) -> int:
        return int(values[g, y, x]) if 0 <= y < H and 0 <= x < W else 0

    symbols, energies, contexts = (np.zeros(codes.shape, int) for _ in range(3))
    for g, y, x in np.ndindex(codes.shape):
        around = [value(g, y, x - 1), value(g, y - 1, x), value(g, y - 1, x - 1), value(g, y - 1, x + 1)]
        exact = sum(int(m) * v for m, v in zip(s.mean[g], around, strict=True))
        mean = (exact + 32) // 64
        rest = exact - 64 * mean
        energy = sum(int(w) * abs(v) for w, v in zip(s.own[g], around, strict=True))
        energy += sum(int(s.earlier[g, other]) * abs(value(other, y, x)) for other in range(g))
        sign = 1 if rest >= 0 else -1
        symbols[g, y, x] = (middle[g] + sign * (value(g, y, x) - mean)) % SIZES[g]
        energies[g, y, x] = energy
        lean = (abs(rest) >= 6) + (abs(rest) >= 18)
        contexts[g, y, x] = leans * sum(int(t) <= energy for t in s.thresholds[g]) + min(lean, leans - 1)
    return symbols, energies, contexts


def test_observations_are_as_documented(fitted):
    codes = smooth_codes(11, 7)
    symbols, energies, contexts = by_hand(codes, fitted)
    got = statistics.observe(codes.astype(np.int32), np.array(SIZES), fitted.mean, fitted.own, fitted.earlier)
    assert np.array_equal(got[0], symbols)
    assert np.array_equal(got[1], energies)
    assert len(np.unique(contexts)) > 12  # the picture is lively enough for the test to mean something


def test_histogram_takes_what_its_counts_say(fitted):
    codes = smooth_codes(40, 50, seed=3)
    symbols, _, contexts = by_hand(codes, fitted)
    bits = 0.0
    for g in range(3):
        counts = fitted.counts[g].astype(float)
        bits -= np.log2(counts[contexts[g], symbols[g]] / counts.sum(1)[contexts[g]]).sum()
    data = coders.encode("histogram", codes, Given(SIZES, fitted))
    assert bits / 8 - 1 < len(data) < 1.001 * bits / 8 + 8


def test_contexts_save_bytes(fitted):
    codes = smooth_codes(40, 50, seed=3)
    plain = statistics.fit([smooth_codes(40, 50, seed) for seed in (1, 2)], SIZES)
    assert len(coders.encode("histogram", codes, Given(SIZES, fitted))) < len(
        coders.encode("histogram", codes, Given(SIZES, plain))
    )


def entropy_bytes(codes: np.ndarray) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    return -(counts * np.log2(counts / counts.sum())).sum() / 8


def test_adaptive_from_nothing_comes_near_the_entropy():
    share = 0.5 ** np.arange(1, 17)
    codes = np.random.default_rng(0).choice(16, (1, 200, 200), p=share / share.sum())
    size = len(coders.encode("adaptive", codes, Given([16])))
    assert 0.99 * entropy_bytes(codes) < size < 1.02 * entropy_bytes(codes) + 40


def test_adaptive_follows_a_change():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 4, (1, 100, 200)), generator.integers(60, 64, (1, 100, 200))
    codes = np.concatenate([first, second], axis=1)
    size = len(coders.encode("adaptive", codes, Given([64])))
    two_bits_each, three_bits_each = codes.size / 4, entropy_bytes(codes)
    assert two_bits_each < size < 0.5 * (two_bits_each + three_bits_each)


def test_adaptive_begins_with_the_models_counts(fitted):
    codes = smooth_codes(6, 6, seed=3)
    assert len(coders.encode("adaptive", codes, Given(SIZES, fitted))) < 0.9 * len(
        coders.encode("adaptive", codes, Given(SIZES))
    )


def test_coding_leaves_the_models_counts_alone(fitted):
    before = fitted.counts.copy()
    codes = smooth_codes(30, 30)
    first = coders.encode("adaptive", codes, Given(SIZES, fitted))
    coders.decode("adaptive", first, codes.shape, Given(SIZES, fitted))
    assert np.array_equal(fitted.counts, before)
    assert coders.encode("adaptive", codes, Given(SIZES, fitted)) == first


GOLDEN_CODES = np.random.default_rng(7).integers(0, [[[9]], [[16]], [[5]]], (3, 3, 4)) // 2
GOLDEN_STATISTICS = Statistics(
    mean=np.array([[40, 24, -8, 4], [64, 0, 0, 0], [0, 0, 0, 0]], np.int32),
    own=np.array([[30, 30, 10, 10], [1, 2, 3, 4], [64, 64, 0, 0]], np.int32),
    earlier=np.array([[0, 0, 0], [20, 0, 0], [5, 33, 0]], np.int32),
    thresholds=np.array([[40, 90], [10, 60], [100, 200]], np.int32),
    counts=np.array(
        [
            [[(7 * k * k + 13 * x + g) % 50 + 1 if k < K else 0 for k in range(16)] for x in range(3)]
            for g, K in enumerate(SIZES)
        ],
        np.uint16,
    ),
)
GOLDEN_BYTES = {
    ("histogram", True): "4998dc35d1fd65ed094396c0422552c5c4",
    ("adaptive", True): "482cae75701d5bf0cedb0e03f291ac9c4d7c4c",
    ("adaptive", False): "780ecb57699e6d643fa3ae08b8",
}


@pytest.mark.parametrize(("coder", "counts"), GOLDEN_BYTES)
def test_golden_bytes(coder, counts):
    """The formats never change: these bytes were written by the first version."""
    expected = [4, 2, 3, 4, 2, 3, 3, 1, 0, 1, 1, 3]
    assert GOLDEN_CODES.reshape(3, -1)[0].tolist() == expected, "numpy's generator changed, not the coder"
    model, golden = GOLDEN_STATISTICS if counts else None, bytes.fromhex(GOLDEN_BYTES[coder, counts])
    assert coders.encode(coder, GOLDEN_CODES, Given(SIZES, model)) == golden
    assert np.array_equal(coders.decode(coder, golden, (3, 3, 4), Given(SIZES, model)), GOLDEN_CODES)


def test_shapes_and_types_of_fitted_tables(fitted):
    assert {name: (table.shape, table.dtype) for name, table in fitted.arrays().items()} == {
        "mean": ((3, 4), np.int32),
        "own": ((3, 4), np.int32),
        "earlier": ((3, 3), np.int32),
        "thresholds": ((3, 5), np.int32),
        "counts": ((3, 18, 16), np.uint16),
    }
    assert (np.diff(fitted.thresholds) >= 0).all()


def test_every_code_stays_possible_and_none_beyond_the_codebook():
    always_zero = np.zeros((2, 50, 50), int)
    for contexts in (1, 4):
        tables = statistics.fit([always_zero], [700, 3], energies=contexts)
        assert (tables.counts[0] >= 1).all()
        assert (tables.counts[1, :, :3] >= 1).all()
        assert (tables.counts[1, :, 3:] == 0).all()
        never_seen = np.random.default_rng(0).integers(0, [[[700]], [[3]]], (2, 5, 5))
        data = coders.encode("histogram", never_seen, Given([700, 3], tables))
        assert np.array_equal(coders.decode("histogram", data, (2, 5, 5), Given([700, 3], tables)), never_seen)


def test_counts_follow_the_shares_that_were_seen():
    codes = np.repeat([0, 1, 2, 3], [500, 250, 200, 50]).reshape(1, 10, 100)
    counts = statistics.fit([codes], [4]).counts[0, 0].astype(float)
    assert counts / counts.sum() == pytest.approx([0.5, 0.25, 0.2, 0.05], abs=0.001)
    assert counts.sum() == pytest.approx(statistics.COUNT_TOTAL, rel=0.001)


def test_of_groups_is_the_statistics_of_those_groups(fitted):
    part = fitted.of_groups(1, 3)
    assert np.array_equal(part.mean, fitted.mean[1:3])
    assert np.array_equal(part.own, fitted.own[1:3])
    assert np.array_equal(part.earlier, [[0, 0], [33, 0]])
    assert np.array_equal(part.thresholds, fitted.thresholds[1:3])
    assert np.array_equal(part.counts, fitted.counts[1:3])
    codes = smooth_codes(9, 9)[1:3]
    for coder in ("histogram", "adaptive"):
        data = coders.encode(coder, codes, Given(SIZES[1:3], part))
        assert np.array_equal(coders.decode(coder, data, codes.shape, Given(SIZES[1:3], part)), codes)


def test_no_codes_are_no_bytes():
    empty = np.zeros((3, 0, 4), int)
    assert context.encode(empty, SIZES, statistics.flat(SIZES), adaptive=True) == b""
    assert context.decode(b"", (3, 0, 4), SIZES, statistics.flat(SIZES), adaptive=True).shape == (3, 0, 4)
    with pytest.raises(BadFile):
        context.decode(b"\0", (3, 0, 4), SIZES, statistics.flat(SIZES), adaptive=True)


def test_histogram_needs_counts():
    with pytest.raises(UsageError, match="counts"):
        coders.encode("histogram", GOLDEN_CODES, Given(SIZES))


def test_names_and_numbers_of_coders():
    assert coders.names() == {0: "packed", 1: "histogram", 2: "adaptive", 3: "prior"}  # in files, for ever
    assert coders.candidates("auto", Given(SIZES)) == ["packed", "adaptive"]
    assert coders.candidates("auto", Given(SIZES, GOLDEN_STATISTICS)) == ["packed", "histogram", "adaptive"]
    with pytest.raises(BadFile, match="coder 99"):
        coders.name_of(99)
    with pytest.raises(UsageError) as caught:
        coders.candidates("adaptiv", Given(SIZES))
    assert "adaptive" in caught.value.hint
