import hashlib
import math

import numpy as np
import pytest

from vqcli.entropy import pixel_likelihood
from vqcli.entropy.pixel_likelihood import Categories, Mixture
from vqcli.errors import BadFile

TOTAL = (1 << 24) + 256
INT32 = np.iinfo(np.int32)


def integers(generator: np.random.RandomState, low: int, high: int, *shape: int) -> np.ndarray:
    return generator.randint(low, high, shape, np.int64).astype(np.int32)


def likely(kind: str, shape: tuple[int, int, int], components: int, seed: int = 0) -> Mixture:
    """Parameters as nets make them: means in the picture, scales from 1/20 of a level to 100."""
    generator, (C, H, W) = np.random.RandomState(seed), shape
    return Mixture(
        kind,
        integers(generator, -200, 0, C, components, H, W),
        integers(generator, -20 * 32, 275 * 32, C, components, H, W),
        integers(generator, -276, 428, C, components, H, W),
        integers(generator, -256, 257, C * (C - 1) // 2, H, W),
    )


def extreme(kind: str, shape: tuple[int, int, int], components: int, seed: int = 0) -> Mixture:
    """Any int32, the ends among them."""
    generator, (C, H, W) = np.random.RandomState(seed), shape

    def wild(*size: int) -> np.ndarray:
        ends = np.array([INT32.min, INT32.max, 0, -1, 1, 32 * 127], np.int32)
        return np.where(
            generator.random_sample(size) < 0.5,
            generator.choice(ends, size),
            integers(generator, INT32.min, INT32.max, *size),
        ).astype(np.int32)

    each = (C, components, H, W)
    return Mixture(kind, wild(*each), wild(*each), wild(*each), wild(C * (C - 1) // 2, H, W))


def categories(shape: tuple[int, int, int], seed: int = 0, spread: int = 200) -> Categories:
    return Categories(integers(np.random.RandomState(seed), -spread, spread, *shape, 256))


def noise(shape: tuple[int, int, int], seed: int = 1) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape, np.uint8)  # whose numbers numpy keeps for ever


PARAMETERS = {
    "logistic": likely("logistic", (3, 5, 7), 3),
    "normal": likely("normal", (3, 5, 7), 1),
    "grey": likely("logistic", (1, 6, 4), 2),
    "four channels": likely("logistic", (4, 3, 3), 5),
    "one pixel": likely("logistic", (3, 1, 1), 1),
    "extreme logistic": extreme("logistic", (3, 8, 9), 3),
    "extreme normal": extreme("normal", (3, 8, 9), 2),
    "categories": categories((3, 4, 5)),
    "extreme categories": categories((2, 3, 3), spread=INT32.max),
}


@pytest.fixture(params=PARAMETERS)
def parameters(request: pytest.FixtureRequest) -> Mixture | Categories:
    return PARAMETERS[request.param]


def test_pixels_return(parameters):
    shape = parameters.shape
    for pixels in (noise(shape), np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        data = pixel_likelihood.encode(pixels, parameters)
        back = pixel_likelihood.decode(data, shape, parameters)
        assert back.dtype == np.uint8 and (back == pixels).all()
        assert 8 * len(data) <= pixel_likelihood.bits(pixels, parameters) + 8.01


def test_other_lengths_are_noticed(parameters):
    """A shorter stream may be one of other pixels, never of the same; a longer one is none at all."""
    pixels = noise(parameters.shape)
    data = pixel_likelihood.encode(pixels, parameters)
    for longer in (data + b"\0", data + b"\xff", data + data):
        with pytest.raises(BadFile, match=f"{len(longer)} bytes of pixels end too early or too late"):
            pixel_likelihood.decode(longer, pixels.shape, parameters)
    for shorter in (b"", data[:-1], data[: len(data) // 2]):
        try:
            assert (pixel_likelihood.decode(shorter, pixels.shape, parameters) != pixels).any()
        except BadFile:
            continue


def test_much_shorter_streams_are_bad_files():
    said = likely("logistic", (3, 9, 9), 3)
    data = pixel_likelihood.encode(noise(said.shape), said)
    for length in range(len(data) * 3 // 4):
        with pytest.raises(BadFile, match=f"^{length} bytes of pixels end too early or too late"):
            pixel_likelihood.decode(data[:length], said.shape, said)


def test_foreign_bytes_give_pixels_or_bad_file(parameters):
    generator = np.random.default_rng(3)
    for length in (1, 8, 40, 400):
        for fill in (generator.bytes(length), b"\0" * length, b"\xff" * length):
            try:
                assert pixel_likelihood.decode(fill, parameters.shape, parameters).shape == parameters.shape
            except BadFile:
                pass


def test_no_pixels_are_no_bytes():
    for nothing in (likely("logistic", (3, 0, 4), 2), categories((3, 4, 0))):
        pixels = np.zeros(nothing.shape, np.uint8)
        assert pixel_likelihood.encode(pixels, nothing) == b"" and pixel_likelihood.bits(pixels, nothing) == 0
        assert pixel_likelihood.decode(b"", nothing.shape, nothing).shape == nothing.shape
        with pytest.raises(BadFile):
            pixel_likelihood.decode(b"\0", nothing.shape, nothing)


def all_values(kind: str, rows: int, components: int, seed: int) -> tuple[np.ndarray, Mixture]:
    """Grey pixels [1, rows, 256], in each row every value under the same parameters."""
    one = likely(kind, (1, rows, 1), components, seed)
    wide = [np.ascontiguousarray(array.repeat(256, -1)) for array in (one.log_weights, one.means, one.log_scales)]
    return np.arange(256, dtype=np.uint8)[None].repeat(rows, 0)[None], Mixture(
        kind, *wide, np.zeros((0, rows, 256), np.int32)
    )


@pytest.mark.parametrize("kind", ["logistic", "normal"])
def test_shares_are_those_of_the_distribution(kind):
    pixels, said = all_values(kind, 20, 3, seed=4)
    before, frequencies, totals = (array.reshape(20, 256) for array in said.shares(pixels))
    assert (totals == TOTAL).all() and frequencies.min() >= 1
    assert (before[:, 0] == 0).all() and (before[:, 1:] == np.cumsum(frequencies, 1)[:, :-1]).all()
    assert (frequencies.sum(1) == TOTAL).all()
    share = {"logistic": lambda t: 1 / (1 + math.exp(-t)), "normal": lambda t: (1 + math.erf(t / math.sqrt(2))) / 2}
    for row in range(20):
        log_weights, means, log_scales = (
            a[0, :, row, 0].astype(float) for a in (said.log_weights, said.means, said.log_scales)
        )
        weights = 2 ** (log_weights / 32)
        below = [
            sum(
                w * share[kind](max(min((v - 0.5 - m / 32) / 2 ** (s / 64), 40), -40))
                for w, m, s in zip(weights / weights.sum(), means, log_scales, strict=True)
            )
            for v in range(1, 256)
        ]
        # S is straight between its steps: its curvature keeps that within 2^-9 / 8 * 0.25
        assert before[row, 1:] / TOTAL == pytest.approx(below, abs=2e-4)


def test_later_channels_follow_earlier_ones():
    """A channel that is told from the one before it costs next to nothing, and its mean is the weighted one."""
    pixels = np.stack([noise((1, 12, 12), 5)[0]] * 2)
    means = np.full((2, 2, 12, 12), 100 * 32, np.int32)
    means[:, 1] = 120 * 32  # with equal weights the mean is 110
    scales = np.full(means.shape, -4 * 64, np.int32)
    flat = np.full((2, 12, 12), 32 * 110, np.int32)
    means[1] = flat[0]
    scales[0] = 8 * 64
    said = Mixture("logistic", np.zeros_like(means), means, scales, np.full((1, 12, 12), 256, np.int32))
    _, frequencies, totals = said.shares(pixels)
    first, second = np.log2(totals / frequencies).reshape(-1, 2).T  # channels of a pixel follow each other
    assert first.mean() > 7 and second.max() < 0.01


def test_tables_are_rounded_exactly():
    sigmoid, normal = pixel_likelihood._logistic(), pixel_likelihood._normal()
    at = (np.arange(1281) - 640) / 32
    assert len(sigmoid) == len(normal) == 1282 and sigmoid[640] == normal[640] == 1 << 29
    assert np.abs(sigmoid[:-1] - 2**30 / (1 + np.exp(-at))).max() <= 0.5 + 1e-6
    assert np.abs(normal[:-1] - 2**30 * np.array([math.erfc(-t / math.sqrt(2)) / 2 for t in at])).max() <= 0.5 + 1e-6
    for table in (sigmoid, normal):
        assert (np.diff(table) >= 0).all() and (table[:-1] + table[-2::-1] == 1 << 30).all()
    powers = pixel_likelihood._powers(32, 1 << 20)
    assert np.abs(powers - 2.0**20 * 2 ** (-np.arange(len(powers)) / 32)).max() <= 0.5 + 1e-6
    assert powers[0] == 1 << 20 and powers[32] == 1 << 19 and powers[-1] in (0, 1)


def test_tables_and_bytes_stay_what_they_are():
    """Files depend on each of these numbers: they may not change, with a version or with a machine."""
    tables = [
        pixel_likelihood._logistic(),
        pixel_likelihood._normal(),
        pixel_likelihood._reciprocals(),
        pixel_likelihood._powers(32, 1 << 20),
    ]
    tables.append(pixel_likelihood._powers(16, 1 << 22))
    assert digest(b"".join(table.astype("<i8").tobytes() for table in tables)) == TABLES
    written = [pixel_likelihood.encode(noise(said.shape), said) for said in PARAMETERS.values()]
    assert digest(b"".join(written)) == WRITTEN


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


TABLES, WRITTEN = "0e62f31c5b9e5775", "381c0eacccd84df6"


def test_arrays_that_do_not_fit_are_refused():
    good = likely("logistic", (3, 2, 2), 2)
    arrays = [good.log_weights, good.means, good.log_scales, good.coefficients]
    for i in range(4):
        for bad in (arrays[i].astype(np.int64), arrays[i][..., :1]):
            with pytest.raises(ValueError, match="are int"):
                Mixture("logistic", *arrays[:i], bad, *arrays[i + 1 :])
    with pytest.raises(ValueError, match="unknown kind of mixture 'cauchy'"):
        Mixture("cauchy", *arrays)
    with pytest.raises(ValueError, match="means are"):
        Mixture("logistic", *(array[:, :0] for array in arrays[:3]), good.coefficients)
    with pytest.raises(ValueError, match="logits are"):
        Categories(np.zeros((3, 2, 2, 255), np.int32))
    with pytest.raises(ValueError, match="pixels are"):
        pixel_likelihood.encode(noise((3, 2, 3)), good)
    with pytest.raises(ValueError, match="pixels are int64"):
        pixel_likelihood.encode(noise((3, 2, 2)).astype(np.int64), good)
    with pytest.raises(ValueError, match="not \\(3, 2, 3\\)"):
        pixel_likelihood.decode(b"", (3, 2, 3), good)
