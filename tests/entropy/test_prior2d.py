"""The exact prior on tiny nets made of integers alone."""

from dataclasses import replace

import numpy as np
import pytest

from vqcli.container.fields import varint
from vqcli.entropy import coders, integer_layers, prior2d, prior2d_net, prior2d_parts, prior2d_stages
from vqcli.entropy.coders import Given
from vqcli.entropy.integer_layers import Dense, Stencil
from vqcli.entropy.prior2d_net import Net, ScalarPart, ScalarTables, VectorPart
from vqcli.errors import BadFile

SCALAR_SIZES, VECTOR_SIZES = (31, 31, 15, 8), (16, 7)
QUALITY = {"scalar": 17, "vector": 0}
KINDS = ["scalar", "vector"]
NUMBERS = [np.float32, np.float64, np.int64]


def tables() -> ScalarTables:
    """Scales from 1/4 to 16 in 16 steps an octave; half of what is left lies beyond each 16 entries of the shape."""
    shape = [1 << 29]
    while shape[-1] > 1:
        shape.append(shape[-1] * 981 // 1024)
    steps = [(1 << 10) + (octave_part << 6) for octave_part in range(16)]
    scales = [step << octave for octave in range(6) for step in steps] + [1 << 16]
    return ScalarTables(
        features=np.array([(16 * v).bit_length() * 4 + v % 4 for v in range(256)], np.int16),
        thresholds=np.array(scales, np.int32) >> 4,
        lowest=np.array([3], np.int32),
        scales=np.array(scales, np.int32),
        shape=np.array(shape, np.int32),
    )


def tiny_net(kind: str, seed: int = 0, hidden: int = 6, sizes: tuple[int, ...] = ()) -> Net:
    """A net for the codebooks of `kind`, or for others of these sizes."""
    sizes = sizes or (SCALAR_SIZES if kind == "scalar" else VECTOR_SIZES)
    draw = np.random.Generator(np.random.PCG64(seed))

    def weights(*shape: int, most: int = 200) -> np.ndarray:
        return draw.integers(-most, most + 1, shape).astype(np.int16)

    def stencil(earlier: int, own: list[int], qualities: int, out: int, low: int, shift: int) -> Stencil:
        bias = draw.integers(low, 4000, (len(own) + 1, qualities, out)).astype(np.int32)
        own_weights = tuple(np.abs(weights(n, out)) if low >= 0 else weights(n, out) for n in own)
        return Stencil(weights(earlier, out), own_weights, bias, np.full(out, shift, np.int8))

    def dense(n: int, inputs: int, out: int, shift: int) -> Dense:
        bias = draw.integers(-3000, 3000, (n, out)).astype(np.int32)
        return Dense(weights(n, inputs, out), bias, np.full((n, out), shift, np.int8))

    layout = (1, 1, 2) if sizes == SCALAR_SIZES else (1,) * len(sizes)
    slices = prior2d_stages.slices(len(sizes), layout)
    levels = (2 if kind == "scalar" else 3, *[1] * (len(layout) - 1))
    parts = []
    for groups, depth in zip(slices, levels, strict=True):
        kinds = [phase.kind for phase in prior2d_stages.phases(depth)[1:]]
        first, n = groups.start, len(groups)
        if kind == "scalar":
            taps = [len(prior2d_stages.taps(k, 2)) * n for k in kinds]
            parts.append(
                ScalarPart(
                    stencil(18 * first, [2 * t for t in taps], 2, hidden, -4000, 8),
                    dense(1, hidden, hidden, 7),
                    dense(1, hidden, 2 * n, 9),
                    stencil(9 * first, taps, 2, n, -400, 3),
                    stencil(9 * first, taps, 2, n, 300, 2),
                )
            )
        else:
            taps = [len(prior2d_stages.taps(k, 3)) * 3 for k in kinds]
            seen = sizes[first], *sizes[:first]
            embeddings = [draw.integers(-127, 128, (K + 1, 3)).astype(np.int8) for K in seen]
            parts.append(
                VectorPart(
                    stencil(27 * first, taps, 1, hidden, -4000, 8),
                    dense(2 * depth + 1, hidden, hidden, 7),
                    dense(1, hidden, sizes[first], 8),
                    embeddings[0],
                    tuple(embeddings[1:]),
                )
            )
    if kind == "scalar":
        return Net(sizes, tuple(slices), levels, 2, tuple(parts), tables())
    top = min(16, 31 - (max(sizes) - 1).bit_length())  # of frequencies, whose sum is bounded
    frequencies = np.array([max(1, 1 << top >> lack // 16) for lack in range(300)], np.int32)
    return Net(sizes, tuple(slices), levels, 0, tuple(parts), frequencies)


def random_codes(kind: str, H: int, W: int, seed: int = 0) -> np.ndarray:
    sizes = np.array(SCALAR_SIZES if kind == "scalar" else VECTOR_SIZES)[:, None, None]
    draw = np.random.Generator(np.random.PCG64(seed))
    walk = draw.integers(-1, 2, (len(sizes), H, W)).cumsum(2) + sizes // 2
    codes = np.where(draw.integers(0, 8, walk.shape) > 0, walk, draw.integers(0, sizes, walk.shape))
    return (codes % sizes).astype(np.int32)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("shape", [(1, 1), (1, 23), (17, 1), (2, 2), (16, 16), (37, 21)], ids=str)
def test_codes_come_back(kind, shape):
    net, codes = tiny_net(kind), random_codes(kind, *shape)
    data = prior2d.encode(codes, QUALITY[kind], net)
    decoded = prior2d.decode(data, codes.shape, QUALITY[kind], net)
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, codes)


def test_no_codes_are_no_bytes(kind):
    net = tiny_net(kind)
    empty = np.zeros((len(net.codebook_sizes), 0, 4), np.int32)
    assert prior2d.encode(empty, QUALITY[kind], net) == b""
    assert prior2d.decode(b"", empty.shape, QUALITY[kind], net).shape == empty.shape
    with pytest.raises(BadFile):
        prior2d.decode(b"\0", empty.shape, QUALITY[kind], net)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_kind_of_number_and_block_gives_the_same(kind, number, monkeypatch):
    net, codes = tiny_net(kind), random_codes(kind, 37, 21)
    predicted: dict[int, list[np.ndarray]] = {}
    for block in (1, 50, 10**6):  # one row at a time, some, all
        monkeypatch.setattr(prior2d, "BLOCK", block)
        told = predicted[block] = []

        class Recorder:
            def code(self, codes: np.ndarray, predicted: np.ndarray, sizes: np.ndarray, told=told) -> None:
                told.extend(predicted)

        prior2d._code(np.moveaxis(codes, 0, -1).copy(), QUALITY[kind], net, Recorder(), number)
    reference = predicted[10**6]
    assert len(reference) > 37 * 21
    for told in predicted.values():
        assert all(np.array_equal(a, b) for a, b in zip(told, reference, strict=True))
    data = prior2d.encode(codes, QUALITY[kind], net)
    assert prior2d.encode(codes, QUALITY[kind], net, number) == data
    assert np.array_equal(prior2d.decode(data, codes.shape, QUALITY[kind], net, number), codes)


@pytest.mark.parametrize("number", NUMBERS)
def test_layers_are_the_sums_that_they_claim_to_be(number):
    part = tiny_net("scalar").parts[2]
    draw = np.random.default_rng(0)
    earlier, own = draw.integers(-60, 61, (5, 36)), draw.integers(-60, 61, (5, 48))
    whole = earlier @ part.first.earlier.astype(int) + own @ part.first.own[1].astype(int)
    bias = (part.first.bias[2, 0].astype(int) * 3 + part.first.bias[2, 1].astype(int) * 7) // 10
    got = part.first.prepared(number, 17)(2, earlier.astype(number), own.astype(number), 5)
    assert np.array_equal(got, (whole + bias) // 256)
    x = draw.integers(0, 257, (5, 6))
    expected = (x @ part.out.weight[0].astype(int) + part.out.bias[0]) // 512
    assert np.array_equal(part.out.prepared(number)(1, x.astype(number)), expected)


def test_frequencies_follow_the_shape():
    rows = tables().cumulative(15)
    assert rows.dtype == np.int32 and rows.shape == (13, 17, 32)
    frequencies = np.diff(rows, axis=2)
    assert (frequencies >= 1).all()
    assert np.array_equal(frequencies[:, 0], frequencies[:, 0, ::-1])  # a mean without rest leans nowhere
    shape = tables().shape / prior2d_parts.SHARE

    def beyond(away: float) -> float:
        at = min(abs(away) * prior2d_parts.SHAPE, len(shape) - 1.001)
        share = shape[int(at)] + (at % 1) * (shape[int(at) + 1] - shape[int(at)])
        return 1 - share if away < 0 else share

    scale, rest = tables().scales[5 * 8] / 4096, 9 / 32
    for k, difference in enumerate(range(-15, 16)):
        share = beyond((difference - 0.5 - rest) / scale) - beyond((difference + 0.5 - rest) / scale)
        assert frequencies[5, 9, k] / prior2d_parts.TOTAL == pytest.approx(share, abs=3e-6)


def test_a_confident_net_takes_few_bytes(kind):
    net, codes = tiny_net(kind), random_codes(kind, 16, 16)
    uniform = sum(np.log2(K) for K in net.codebook_sizes) * 256 / 8
    assert len(prior2d.encode(codes, QUALITY[kind], net)) < 3 * uniform
    constant = np.zeros_like(codes) + (np.array(net.codebook_sizes) - 1)[:, None, None] // 2
    bits = np.zeros(3)
    for n, seed in enumerate(range(3)):
        bits[n] = len(prior2d.encode(constant, QUALITY[kind], tiny_net(kind, seed)))
    assert len(set(bits)) == 3  # it is the net that decides


def test_bits_are_those_of_the_coded_stream():
    net = tiny_net("vector", sizes=(7, 7))
    codes = np.random.default_rng(0).integers(0, 7, (2, 24, 21))
    costs = prior2d.bits(codes, net)
    assert costs.shape == (2, 24, 21, 7)
    assert np.allclose((2.0**-costs).sum(3), 1, atol=1e-4)
    taken = np.take_along_axis(costs, codes[..., None], 3).sum()
    assert taken == pytest.approx(8 * len(prior2d.encode(codes, 0, net)), abs=40)


@pytest.mark.parametrize("tenths", [10, 13, 20])
def test_the_quality_counts(tenths):
    net, codes = tiny_net("scalar"), random_codes("scalar", 9, 9)
    data = prior2d.encode(codes, tenths, net)
    assert np.array_equal(prior2d.decode(data, codes.shape, tenths, net), codes)
    assert data != prior2d.encode(codes, 16, net)


@pytest.mark.parametrize("tenths", [0, 9, 21, 255])
def test_a_quality_that_the_net_has_not(tenths):
    with pytest.raises(BadFile, match="quality"):
        prior2d.decode(b"abc", (4, 3, 3), tenths, tiny_net("scalar"))


# ---------------------------------------------------------------- bad streams


def refused(wrong: bytes, codes: np.ndarray, kind: str, net: Net) -> bool:
    """Whether bytes are a BadFile. If not, they must be the whole stream of other codes, as any bytes may be."""
    try:
        decoded = prior2d.decode(wrong, codes.shape, QUALITY[kind], net)
    except BadFile:
        return True
    assert not np.array_equal(decoded, codes)  # so the checksum of the codes tells
    assert ((decoded >= 0) & (decoded < np.array(net.codebook_sizes)[:, None, None])).all()
    assert len(prior2d.encode(decoded, QUALITY[kind], net)) == len(wrong)
    return False


def test_cut_and_lengthened_streams(kind):
    net, codes = tiny_net(kind), random_codes(kind, 6, 7)
    data = prior2d.encode(codes, QUALITY[kind], net)
    assert refused(b"", codes, kind, net)
    assert refused(data + b"\0", codes, kind, net)
    assert refused(data + bytes(50), codes, kind, net)
    cuts = [refused(data[:length], codes, kind, net) for length in range(len(data))]
    assert sum(cuts) > 0.95 * len(cuts)


def test_each_frame_of_a_clip_is_a_picture_of_its_own(kind):
    """Behind the number of its bytes; streams that are cut, go on, or lie about a frame are refused."""
    net, sizes = tiny_net(kind), SCALAR_SIZES if kind == "scalar" else VECTOR_SIZES
    frames = [random_codes(kind, 5, 7, seed) for seed in range(3)]
    clip, quality = np.stack(frames, 1), QUALITY[kind]
    given = Given(sizes, net=net, quality=quality)
    data = coders.encode("prior", clip, given)
    alone = [prior2d.encode(frame, quality, net) for frame in frames]
    assert data == b"".join(varint(len(frame)) + frame for frame in alone)
    assert np.array_equal(coders.decode("prior", data, clip.shape, given), clip)
    too_long = varint(len(data)) + data[1:]
    for wrong in (b"", data + b"\0", data[: len(alone[0])], data[1:] + data[:1], too_long, b"\xff" * 20):
        with pytest.raises(BadFile):
            coders.decode("prior", wrong, clip.shape, given)


def test_flipped_bits(kind):
    net, codes = tiny_net(kind), random_codes(kind, 5, 6)
    data = prior2d.encode(codes, QUALITY[kind], net)
    flips = [
        bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(data)) for bit in range(8 * len(data))
    ]
    last_byte = 8 * len(data) - 8  # its lower bits may hold anything above what the interval needs
    told = [refused(wrong, codes, kind, net) for wrong in flips[:last_byte]]
    assert sum(told) > 0


def test_noise(kind):
    net, codes = tiny_net(kind), random_codes(kind, 4, 5)
    draw = np.random.default_rng(0)
    assert sum(refused(draw.bytes(length), codes, kind, net) for length in range(60)) > 50


# ---------------------------------------------------------------- the net as a file


def test_arrays_and_back(kind):
    net = tiny_net(kind)
    again = prior2d_net.from_arrays(net.arrays(), net.codebook_sizes)
    assert (again.slices, again.levels, again.qualities) == (net.slices, net.levels, net.qualities)
    codes = random_codes(kind, 9, 9)
    assert prior2d.encode(codes, QUALITY[kind], again) == prior2d.encode(codes, QUALITY[kind], net)


def test_every_array_is_needed_and_has_its_shape_and_type(kind):
    net = tiny_net(kind)
    arrays = net.arrays()
    for name, array in arrays.items():
        bad = [{k: v for k, v in arrays.items() if k != name}]
        bad += [
            arrays | {name: wrong} for wrong in (array.astype(np.float32), array[..., None], array[:0], array[None])
        ]
        if array.size > 1:
            bad.append(arrays | {name: array.ravel()[0]})
        for wrong in bad:
            if name in wrong and wrong[name].size == array.size == 0 and wrong[name].shape == array.shape:
                continue
            if name in ("slices", "levels", "qualities") and np.array_equal(np.ravel(wrong.get(name, ())), array):
                continue  # the same few numbers
            with pytest.raises(ValueError):
                prior2d_net.from_arrays(wrong, net.codebook_sizes)
    with pytest.raises(ValueError, match="other arrays"):
        prior2d_net.from_arrays(arrays | {"more": np.zeros(3)}, net.codebook_sizes)
    for sizes in (net.codebook_sizes[1:], (*net.codebook_sizes, 4), (70_000,) * len(net.codebook_sizes)):
        with pytest.raises(ValueError):
            prior2d_net.from_arrays(arrays, sizes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("2.first.own.1", 30_000),  # sums beyond 2^24
        ("1.first.earlier", 32_767),
        ("0.first.bias", 1 << 24),
        ("0.first.bias", -(1 << 24)),
        ("0.energy.shift", 25),
        ("0.out.shift", -1),
        ("tables.shape", -1),
        ("tables.shape", 1 << 30),
        ("tables.scales", 0),
        ("tables.thresholds", 1 << 30),  # in the middle: no longer ascending
        ("tables.features", 32_767),
        ("tables.lowest", 1 << 30),
        ("slices", 9),
        ("levels", 7),
        ("levels", -1),
        ("qualities", -1),
        ("qualities", 0),
        ("qualities", 26),
    ],
    ids=str,
)
def test_numbers_that_would_break_the_promise(name, value):
    net = tiny_net("scalar")
    arrays = {key: array.copy() for key, array in net.arrays().items()}
    changed = arrays[name]
    if changed.ndim > 1 and value > 0 and "bias" not in name:
        changed[...] = value
    else:
        changed.ravel()[changed.size // 2] = value
    with pytest.raises(ValueError):
        prior2d_net.from_arrays(arrays, net.codebook_sizes)


def test_frequencies_of_vector_codes_are_bounded():
    net = tiny_net("vector")
    for wrong in (np.zeros(4, np.int32), np.full(4, 1 << 29, np.int32), np.zeros(0, np.int32)):
        with pytest.raises(ValueError, match="frequencies"):
            replace(net, tables=wrong).check()


def test_the_bound_is_tight():
    """At 2^24 - 1 a layer is sound, and float32 still exact; one more is refused."""
    weight = np.full((1, 2, 1), 32_767, np.int16)
    bias = np.array([[integer_layers.LIMIT - 1 - 2 * 32_767 * 256]], np.int32)
    layer = Dense(weight, bias, np.zeros((1, 1), np.int8))
    layer.check(1, 2, 1, 256)
    x = np.full((1, 2), 256)
    assert [int(layer.prepared(number)(0, x.astype(number))[0, 0]) for number in NUMBERS] == [
        integer_layers.LIMIT - 1
    ] * 3
    with pytest.raises(ValueError, match="2\\^24"):
        replace(layer, bias=bias + 1).check(1, 2, 1, 256)


GOLDEN = {
    "scalar": "8970c3f1d2e6f0274d5d2db1132ba778263e9144af0e8d6d068f21fd933291548705e243f20ba6781c293f16dbde",
    "vector": "a80cf2a49143a42bb90c70cf2b41f5dabd01f4c2f6d3f6da7a18755af12ee0e209f2f6d978b752491348a098",
}


@pytest.mark.parametrize("kind", KINDS)
def test_golden_bytes(kind):
    """The format never changes: these bytes were written by the first version."""
    codes, net = random_codes(kind, 4, 5, seed=3), tiny_net(kind, seed=3)
    assert prior2d.encode(codes, QUALITY[kind], net).hex() == GOLDEN[kind]
    assert np.array_equal(prior2d.decode(bytes.fromhex(GOLDEN[kind]), codes.shape, QUALITY[kind], net), codes)
