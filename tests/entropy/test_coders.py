"""Every coder gives back the codes of any grid, and takes no bytes for what they are not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vqcli.entropy import coders, statistics
from vqcli.entropy.coders import Given
from vqcli.entropy.statistics import Statistics
from vqcli.errors import BadFile

SIZES = st.integers(2, 1000) | st.sampled_from([2, 3, 4, 5, 255, 256, 257])  # codebooks of one bit and odd ones too
CODERS = st.sampled_from(["packed", "histogram", "adaptive"])


def random_codes(seed: int, sizes: list[int], grid: tuple[int, ...], skew: float) -> np.ndarray:
    """Codes int32 [G, *grid]: uniform at skew 0, nearly all alike at a large one."""
    uniform = np.random.default_rng(seed).random((*grid, len(sizes)))
    return np.moveaxis((uniform ** (1 + skew) * sizes).astype(np.int32), -1, 0)


def random_statistics(seed: int, codes: np.ndarray, sizes: list[int], weighted: bool, contexts: int) -> Statistics:
    generator, G = np.random.default_rng(seed), len(sizes)
    weights = {
        "mean": generator.integers(-40, 41, (G, 4)),
        "own": generator.integers(0, 65, (G, 4)),
        "earlier": np.tril(generator.integers(0, 65, (G, G)), -1),
    }
    plane = codes.reshape(G, -1, codes.shape[-1])
    return statistics.fit([plane], sizes, weights=weights if weighted else None, energies=contexts)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[int], Statistics | None]:
    """Codes of one to three dimensions, their codebooks, and statistics of them, of other codes, or none."""
    sizes = draw(st.lists(SIZES, min_size=1, max_size=5))
    grid = tuple(draw(st.lists(st.integers(1, 8), min_size=1, max_size=3)))
    seed, skew = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 1, 9, 99]))
    codes = random_codes(seed, sizes, grid, skew)
    if (counted := draw(st.sampled_from(["these", "others", "none"]))) == "none":
        return codes, sizes, None
    sample = codes if counted == "these" else random_codes(seed + 1, sizes, (5, 5), 9 - skew if skew < 9 else 0)
    return codes, sizes, random_statistics(seed, sample, sizes, draw(st.booleans()), draw(st.integers(1, 5)))


@given(problems(), CODERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_codes_come_back(problem, coder):
    codes, sizes, counts = problem
    if coder == "histogram" and counts is None:
        counts = statistics.flat(sizes)
    data = coders.encode(coder, codes.astype(np.uint16), Given(sizes, counts))
    decoded = coders.decode(coder, data, codes.shape, Given(sizes, counts))
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, codes)


@pytest.mark.parametrize("coder", ["packed", "histogram", "adaptive"])
def test_the_largest_codebook(coder):
    codes = random_codes(0, [65536, 2], (3, 5), 0)
    codes[0, 0, :2] = 0, 65535
    counts = random_statistics(0, codes, [65536, 2], weighted=True, contexts=2)
    data = coders.encode(coder, codes, Given([65536, 2], counts))
    assert np.array_equal(coders.decode(coder, data, codes.shape, Given([65536, 2], counts)), codes)


@given(problems(), CODERS, st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_other_lengths_are_never_taken_for_the_same_codes(problem, coder, data):
    """The length of a stream follows from its codes: zeros behind it, or nothing at all, never pass.

    Cut or continued otherwise, it may be the whole stream of other codes, as any bytes may; then it has just the
    length of their stream. The container's own lengths and checksums tell such a stream from the right one.
    """
    codes, sizes, counts = problem
    counts = counts or statistics.flat(sizes)
    stream = coders.encode(coder, codes, Given(sizes, counts))
    zeros = data.draw(st.integers(1, 20))
    for wrong in (b"", stream + bytes(zeros)):
        with pytest.raises(BadFile):
            coders.decode(coder, wrong, codes.shape, Given(sizes, counts))
    for wrong in (stream[: data.draw(st.integers(0, len(stream) - 1))], stream + data.draw(st.binary(min_size=1))):
        try:
            decoded = coders.decode(coder, wrong, codes.shape, Given(sizes, counts))
        except BadFile:
            continue
        assert coder != "packed"
        assert len(coders.encode(coder, decoded, Given(sizes, counts))) == len(wrong)


@pytest.mark.parametrize("coder", ["packed", "histogram", "adaptive"])
def test_every_cut_of_a_plain_stream_is_a_bad_file(coder):
    sizes = [64, 7]
    codes = random_codes(3, sizes, (6, 7), 1)
    counts = random_statistics(3, codes, sizes, weighted=True, contexts=3)
    stream = coders.encode(coder, codes, Given(sizes, counts))
    for length in range(len(stream)):
        with pytest.raises(BadFile):
            coders.decode(coder, stream[:length], codes.shape, Given(sizes, counts))


@given(problems(), CODERS, st.binary(max_size=60), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_noise_decodes_to_valid_codes_or_is_a_bad_file(problem, coder, noise, fitting):
    codes, sizes, counts = problem
    counts = counts or statistics.flat(sizes)
    if fitting:  # of the right length, so that it gets further
        length = len(coders.encode(coder, codes, Given(sizes, counts)))
        noise = (noise * length)[:length].ljust(length, b"\x5a")
    try:
        decoded = coders.decode(coder, noise, codes.shape, Given(sizes, counts))
    except BadFile:
        return
    assert decoded.shape == codes.shape
    assert decoded.min() >= 0
    assert all(group.max() < K for group, K in zip(decoded, sizes, strict=True))
