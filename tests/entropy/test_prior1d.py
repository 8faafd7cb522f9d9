"""The exact prior of codes in time, on a net of random integers."""

from dataclasses import replace

import numpy as np
import pytest

from vqcli.entropy import coders, prior1d, prior1d_net
from vqcli.entropy.coders import Given
from vqcli.entropy.integer_layers import Dense
from vqcli.entropy.prior1d_net import SequenceNet, SequencePart, groups_seen, places
from vqcli.errors import BadFile

SIZES = (9, 5, 12, 6)  # levels of two groups
PAST, AROUND, CHANNELS, WIDTH = 3, 1, 4, 10


def tiny_net(seed: int = 0, sizes: tuple[int, ...] = SIZES, earlier: int = 4) -> SequenceNet:
    draw = np.random.Generator(np.random.PCG64(seed))

    def dense(inputs: int, out: int, shift: int) -> Dense:
        weight = draw.integers(-60, 61, (1, inputs, out)).astype(np.int16)
        bias = draw.integers(-4000, 4001, (1, out)).astype(np.int32)
        return Dense(weight, bias, np.full((1, out), shift, np.int8))

    def part(group: int) -> SequencePart:
        seen = groups_seen(group, earlier)
        return SequencePart(
            tuple(draw.integers(-127, 128, (sizes[other] + 1, CHANNELS)).astype(np.int8) for other in seen),
            dense(CHANNELS * (len(places(group, PAST, AROUND, earlier)) + len(seen)), WIDTH, 7),
            dense(WIDTH, WIDTH, 7),
            dense(WIDTH, sizes[group], 9),
        )

    parts = tuple(part(group) for group in range(len(sizes)))
    lacks = np.arange(200)
    top = min(16, 31 - (max(sizes) - 1).bit_length())  # of frequencies, whose sum is bounded
    net = SequenceNet(sizes, PAST, AROUND, earlier, parts, (1 + (1 << top >> lacks // 16)).astype(np.int32))
    net.check()
    return net


def random_codes(T: int, rows: int = 1, seed: int = 0, groups: range = range(4)) -> np.ndarray:
    draw = np.random.Generator(np.random.PCG64(seed))
    codes = [draw.integers(0, K, (rows, T)) for K in SIZES]
    return np.stack([codes[group] for group in groups]).astype(np.int32)


def expected_logits(net: SequenceNet, codes: np.ndarray, group: int, t: int) -> np.ndarray:
    """Logits of one code as prior1d_net.py tells it, in plain Python integers: codes [G, T]."""
    part, inputs = net.parts[group], []
    tables = dict(zip(groups_seen(group, net.earlier), part.tables, strict=True))
    for other, away in net.context(group):
        inside = 0 <= t + away < codes.shape[1]
        code = codes[other, t + away] if inside else SIZES[other]
        inputs += [int(x) for x in tables[other][code]]
    for other in tables:
        seen = tables[other][codes[other, : None if other < group else t]].astype(int)
        inputs += [(2 * int(x) + len(seen)) // (2 * len(seen)) if len(seen) else 0 for x in seen.sum(0)]
    for layer, last in ((part.first, False), (part.hidden, False), (part.out, True)):
        x = np.array(inputs, object) @ layer.weight[0].astype(object) + layer.bias[0].astype(object)
        inputs = [int(v) >> int(s) for v, s in zip(x, layer.shift[0], strict=True)]
        if not last:
            inputs = [min(max(v, 0), prior1d_net.CEILING) for v in inputs]
    return np.array(inputs)


def expected_bits(net: SequenceNet, codes: np.ndarray, groups: range) -> float:
    bits = 0.0
    for group in groups:
        for t in range(codes.shape[1]):
            logits = expected_logits(net, codes, group, t)
            shares = net.frequencies[np.minimum(logits.max() - logits, len(net.frequencies) - 1)]
            bits -= float(np.log2(shares[codes[group, t]] / shares.sum()))
    return bits


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 37), (3, 5), (1, 200)], ids=str)
def test_codes_come_back(shape):
    rows, T = shape
    net, codes = tiny_net(), random_codes(T, rows)
    data = prior1d.encode(codes, net)
    decoded = prior1d.decode(data, codes.shape, net)
    assert decoded.dtype == np.int32 and np.array_equal(decoded, codes)


@pytest.mark.parametrize(("start", "earlier"), [(0, 4), (2, 4), (3, 4), (0, 1), (2, 2)])
def test_bytes_are_what_the_net_in_plain_integers_says(start, earlier):
    net, codes = tiny_net(earlier=earlier), random_codes(60)
    data = prior1d.encode(codes[start:], net, codes[:start])
    assert 8 * len(data) == pytest.approx(expected_bits(net, codes[:, 0], range(start, 4)), abs=16)
    assert np.array_equal(prior1d.decode(data, (4 - start, 1, 60), net, codes[:start]), codes[start:])


def test_a_level_needs_those_below_and_no_others():
    net, codes = tiny_net(), random_codes(80, 2)
    first = prior1d.encode(codes[:2], net)
    second = prior1d.encode(codes[2:], net, codes[:2])
    assert np.array_equal(prior1d.decode(first, (2, 2, 80), net), codes[:2])
    assert np.array_equal(prior1d.decode(second, (2, 2, 80), net, codes[:2]), codes[2:])
    other = random_codes(80, 2, seed=1)[:2]
    try:
        assert not np.array_equal(prior1d.decode(second, (2, 2, 80), net, other), codes[2:])
    except BadFile:
        pass


def test_rows_know_nothing_of_each_other():
    net, codes = tiny_net(), random_codes(40, 2)
    bits = [expected_bits(net, codes[:, row], range(4)) for row in range(2)]
    assert 8 * len(prior1d.encode(codes, net)) == pytest.approx(sum(bits), abs=16)


def test_through_the_common_door():
    """[groups, T] and [groups, channels, T] alike; other coders take no notice of what lies below."""
    net, codes = tiny_net(), random_codes(30)
    flat = codes[:, 0]
    for below, part in ((None, flat[:2]), (flat[:2], flat[2:])):
        sizes = SIZES[:2] if below is None else SIZES[2:]
        for coder in ("prior", "adaptive", "packed"):
            given = Given(sizes, net=net, below=below)
            data = coders.encode(coder, part, given)
            assert np.array_equal(coders.decode(coder, data, part.shape, given), part)
    data = coders.encode("prior", flat[2:], Given(SIZES[2:], net=net, below=flat[:2]))
    assert data == coders.encode("prior", codes[2:], Given(SIZES[2:], net=net, below=codes[:2]))


def test_no_codes_are_no_bytes():
    net, empty = tiny_net(), np.zeros((4, 1, 0), np.int32)
    assert prior1d.encode(empty, net) == b""
    assert prior1d.decode(b"", empty.shape, net).shape == empty.shape
    with pytest.raises(BadFile):
        prior1d.decode(b"\0", empty.shape, net)


def test_more_groups_than_the_net_has():
    with pytest.raises(BadFile, match="4 groups"):
        prior1d.decode(b"abc", (2, 1, 5), tiny_net(), np.zeros((3, 1, 5), np.int32))


def test_wrong_streams():
    net, codes = tiny_net(), random_codes(50)
    data = prior1d.encode(codes, net)
    draw = np.random.default_rng(0)
    wrong = [data[:length] for length in range(len(data))] + [data + b"\0", data + bytes(50)]
    wrong += [draw.bytes(length) for length in range(60)]
    refused = 0
    for stream in wrong:
        try:
            decoded = prior1d.decode(stream, codes.shape, net)
        except BadFile:
            refused += 1
        else:  # then they are the whole stream of other codes, as any bytes may be
            assert ((decoded >= 0) & (decoded < np.array(SIZES)[:, None, None])).all()
            assert not np.array_equal(decoded, codes)
    assert refused > 0.95 * len(wrong)


def test_of_many_groups_the_first_and_the_nearest_are_seen():
    assert groups_seen(0, 3) == [0] and groups_seen(3, 3) == [0, 1, 2, 3] and groups_seen(31, 3) == [0, 29, 30, 31]


def test_parts_are_kept_where_they_take_little_memory(monkeypatch):
    net, codes = tiny_net(), random_codes(20)
    data = prior1d.encode(codes, net)
    assert net.prepared(2) is net.prepared(2)
    monkeypatch.setattr(prior1d_net, "KEPT_BYTES", 0)
    net = tiny_net()
    assert prior1d.encode(codes, net) == data and net.prepared(2) is not net.prepared(2)


@pytest.mark.parametrize("earlier", [4, 3, 1])
def test_arrays_and_back(earlier):
    net, codes = tiny_net(earlier=earlier), random_codes(20)
    assert len(net.arrays()["reach"]) == (2 if earlier >= 3 else 3)
    again = prior1d_net.from_arrays(net.arrays(), SIZES)
    assert prior1d.encode(codes, again) == prior1d.encode(codes, net)


def test_every_array_is_needed_and_has_its_shape_and_type():
    arrays = tiny_net().arrays()
    for name, array in arrays.items():
        bad = [{k: v for k, v in arrays.items() if k != name}]
        bad += [
            arrays | {name: wrong} for wrong in (array.astype(np.float32), array[..., None], array[:0], array[None])
        ]
        for wrong in bad:
            with pytest.raises(ValueError):
                prior1d_net.from_arrays(wrong, SIZES)
    with pytest.raises(ValueError, match="other arrays"):
        prior1d_net.from_arrays(arrays | {"more": np.zeros(3)}, SIZES)
    for sizes in (SIZES[1:], (*SIZES, 4), (70_000,) * 4):
        with pytest.raises(ValueError):
            prior1d_net.from_arrays(arrays, sizes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("3.first.weight", 32_767),  # sums beyond 2^24
        ("0.out.bias", 1 << 24),
        ("1.hidden.bias", -(1 << 24)),
        ("0.out.shift", -1),
        ("2.first.shift", 25),
        ("frequencies", 0),
        ("frequencies", 1 << 29),
        ("reach", 0),
        ("reach", 33),
    ],
    ids=str,
)
def test_numbers_that_would_break_the_promise(name, value):
    arrays = {key: array.copy() for key, array in tiny_net().arrays().items()}
    arrays[name][...] = value
    with pytest.raises(ValueError):
        prior1d_net.from_arrays(arrays, SIZES)


def test_frequencies_are_bounded():
    for wrong in (np.full(4, 1 << 29, np.int32), np.zeros(0, np.int32), np.ones((2, 2), np.int32)):
        with pytest.raises(ValueError, match="frequencies"):
            replace(tiny_net(), frequencies=wrong).check()


GOLDEN = "c0a7f1d039743d555def595b642a10f67e6f76"


def test_golden_bytes():
    """The format never changes: these bytes were written by the first version."""
    codes, net = random_codes(12, seed=3), tiny_net(seed=3)
    assert prior1d.encode(codes, net).hex() == GOLDEN
    assert np.array_equal(prior1d.decode(bytes.fromhex(GOLDEN), codes.shape, net), codes)
