import numpy as np
import pytest

from vqcli.entropy import rangecoder


def encode(symbols: np.ndarray, frequencies: list[int]) -> bytes:
    before = np.cumsum([0, *frequencies]).tolist()
    return encode_intervals([(before[s], frequencies[s], before[-1]) for s in symbols.tolist()])


def encode_intervals(intervals: list[tuple[int, int, int]]) -> bytes:
    """The stream of (before, frequency, total) for each symbol."""
    state, out = rangecoder.new_state(), np.zeros(5 * len(intervals) + 5, np.uint8)
    for before, frequency, total in intervals:
        rangecoder.put(state, out, before, frequency, total)
    return out[: rangecoder.finish(state, out)].tobytes()


def decode(data: bytes, count: int, frequencies: list[int]) -> list[int]:
    before = np.cumsum([0, *frequencies])
    total = int(before[-1])
    buffer, state = np.frombuffer(data, np.uint8), rangecoder.new_state()
    rangecoder.open_stream(state, buffer)
    symbols = []
    for _ in range(count):
        symbol = int(np.searchsorted(before, rangecoder.peek(state, total), side="right")) - 1
        assert rangecoder.advance(state, buffer, int(before[symbol]), frequencies[symbol], total)
        symbols.append(symbol)
    assert rangecoder.at_end(state, buffer)
    return symbols


def ideal_bytes(symbols: np.ndarray, frequencies: list[int]) -> float:
    share = np.array(frequencies) / sum(frequencies)
    return -np.log2(share[symbols]).sum() / 8


@pytest.mark.parametrize(
    "frequencies",
    [
        [1] * 256,
        [1] * 1000,
        [9999, 1],  # p = 0.9999 as the first symbol, and as the last, which takes what a division leaves over
        [1, 9999],
        [3, 40000, 500, 1, 25032],
        [1, 2**32 - 1],
        [2**32 - 2, 1, 1],
        [2**30, 2**31 - 7, 7, 2**30],
    ],
    ids=lambda frequencies: str(frequencies[:5]),
)
def test_size_is_the_ideal_and_symbols_come_back(frequencies):
    share = np.array(frequencies) / sum(frequencies)
    symbols = np.random.default_rng(0).choice(len(frequencies), 50_000, p=share)
    data = encode(symbols, frequencies)
    ideal = ideal_bytes(symbols, frequencies)
    assert ideal - 1 < len(data) < 1.001 * ideal + 8
    assert decode(data, len(symbols), frequencies) == symbols.tolist()


def test_size_of_symbols_that_are_rarer_than_they_claim():
    frequencies = [1, 2**32 - 1]
    symbols = np.zeros(1000, int)  # 32 bits each: the most that one call can write
    data = encode(symbols, frequencies)
    assert len(data) == pytest.approx(4000, abs=8)
    assert decode(data, 1000, frequencies) == symbols.tolist()


def test_totals_may_change_along_the_way():
    generator = np.random.default_rng(1)
    totals = 2 ** generator.integers(1, 33, 2000)
    wanted = generator.integers(0, totals).tolist()
    data = encode_intervals([(w, 1, int(t)) for w, t in zip(wanted, totals, strict=True)])
    buffer, state = np.frombuffer(data, np.uint8), rangecoder.new_state()
    rangecoder.open_stream(state, buffer)
    for value, total in zip(wanted, totals.tolist(), strict=True):
        assert rangecoder.peek(state, total) == value
        assert rangecoder.advance(state, buffer, value, 1, total)
    assert rangecoder.at_end(state, buffer)
    assert len(data) < 1.001 * np.log2(totals).sum() / 8 + 8


@pytest.mark.parametrize("symbols", [1, 2, 5, 40])
def test_a_carry_runs_back_through_all_bytes(symbols):
    # two units around the very middle, again and again: 7F FF FF ... until the last symbol takes the upper half
    middle = [(2**31 - 1, 2, 2**32)] * symbols
    state, out = rangecoder.new_state(), np.zeros(5 * symbols + 5, np.uint8)
    for interval in middle:
        rangecoder.put(state, out, *interval)
    written = int(state[2])
    assert out[0] == 0x7F and (out[1:written] == 0xFF).all() and written >= 3 * symbols
    data = encode_intervals([*middle, (1, 1, 2)])
    assert data[:written] == b"\x80" + bytes(written - 1)
    buffer, state = np.frombuffer(data, np.uint8), rangecoder.new_state()
    rangecoder.open_stream(state, buffer)
    for before, frequency, total in [*middle, (1, 1, 2)]:
        assert before <= rangecoder.peek(state, total) < before + frequency
        assert rangecoder.advance(state, buffer, before, frequency, total)
    assert rangecoder.at_end(state, buffer)


def test_a_carry_in_the_last_byte():
    # the interval lies across 80 00 ..., and it is only its last byte, rounded up, that overflows
    assert encode_intervals([(2**31 - 1, 2, 2**32)]).hex() == "7fffffff"
    assert encode_intervals([(2**31 - 1, 2, 2**32), (1, 2, 3)]).hex() == "80000000"


def test_golden_stream():
    """The format never changes: these bytes were written by the first version."""
    symbols = np.array([0, 1, 2, 3, 3, 2, 1, 0, 3, 3, 3, 3, 0, 2, 3, 1])
    golden = bytes.fromhex("0000012b6c35c101d3")
    assert encode(symbols, [1, 20, 300, 4000]) == golden
    assert decode(golden, 16, [1, 20, 300, 4000]) == symbols.tolist()


def test_nothing_is_one_byte():
    data = encode(np.zeros(0, int), [1, 1])
    assert data == b"\0"
    assert decode(data, 0, [1, 1]) == []


def test_an_empty_buffer_is_noticed():
    state, buffer = rangecoder.new_state(), np.zeros(0, np.uint8)
    rangecoder.open_stream(state, buffer)
    assert not rangecoder.at_end(state, buffer)
    assert not rangecoder.advance(state, buffer, 0, 1, 1000)
