"""Long sound in segments: equal to the whole where it can be, and joined without clicks where it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vqcli.nets.layers import mulaw
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet import segments
from vqcli.nets.wavenet.decoder import WaveNetDecoder

D = 3
SEGMENTS = segments.Segments(length_s=0.5, warmup_s=0.4, overlap_s=0.1, batch=3)
LENGTHS = {"rate_hz": 800, "segments": SEGMENTS}  # 50 latents of 8 a segment


@pytest.fixture(scope="module")
def net() -> WaveNetDecoder:
    """What it draws depends on what it drew, but after a while no longer on how it began."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = WaveNetDecoder(D, 2, 8, 16, cycles=2, layers_per_cycle=3, stride=8).eval()
    with torch.no_grad():
        net.out.weight *= 20
    return net


@pytest.fixture(scope="module")
def z_q() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(D, 410))).float()


def at_once(net: WaveNetDecoder, z_q: torch.Tensor, speaker: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        local = net.context(z_q[None])
    numbers = segments.uniforms(seed, 0, z_q.shape[1] * net.stride)[None]
    return mulaw.expand(compiled.sample(compiled.compile_net(net), local, torch.tensor([speaker]), numbers)[0])


def test_segments_are_the_whole_once_they_have_forgotten_how_they_began(net, z_q):
    compiled_net, whole = compiled.compile_net(net), at_once(net, z_q, 1, 7)
    pieces = list(segments.sample_long(compiled_net, z_q, 1, 7, **LENGTHS))
    assert len(pieces) == 9 and {piece.dtype for piece in pieces} == {np.dtype(np.float32)}
    assert np.array_equal(np.concatenate(pieces), whole)
    hasty = list(
        segments.sample_long(
            compiled_net, z_q, 1, 7, **LENGTHS | {"segments": replace(SEGMENTS, warmup_s=0, overlap_s=0)}
        )
    )
    assert not np.array_equal(np.concatenate(hasty), whole)


def test_in_torch_the_same(net, z_q):
    z_q = z_q[:, :120]
    drawn = np.concatenate(list(segments.sample_long(net, z_q, 0, 3, **LENGTHS)))
    assert np.array_equal(drawn, at_once(net, z_q, 0, 3))


@pytest.mark.parametrize("part", [(0, 410), (0, 1), (409, 410), (100, 333), (200, 200)])
def test_a_part_is_that_of_the_whole(net, z_q, part):
    drawn = list(segments.sample_long(compiled.compile_net(net), z_q, 1, 7, part=part, **LENGTHS))
    samples = slice(part[0] * net.stride, part[1] * net.stride)
    assert np.array_equal(np.concatenate([[], *drawn]), at_once(net, z_q, 1, 7)[samples])


@pytest.mark.parametrize("count", [0, 1, 2, 51, 99])
def test_any_length(net, z_q, count):
    pieces = segments.sample_long(compiled.compile_net(net), z_q[:, :count], 0, 1, **LENGTHS)
    assert sum(map(len, pieces)) == count * net.stride


def test_latents_may_be_made_as_they_are_read(net, z_q):
    class Made:
        shape = z_q.shape
        widest = 0

        def __getitem__(self, index):
            part = z_q[index]
            self.widest = max(self.widest, part.shape[1])
            return part

    latents, compiled_net = Made(), compiled.compile_net(net)
    drawn = np.concatenate(list(segments.sample_long(compiled_net, latents, 1, 7, **LENGTHS)))
    assert np.array_equal(drawn, np.concatenate(list(segments.sample_long(compiled_net, z_q, 1, 7, **LENGTHS))))
    assert latents.widest < 120


def test_progress_and_refusals(net, z_q):
    shares: list[float] = []
    compiled_net = compiled.compile_net(net)
    list(segments.sample_long(compiled_net, z_q, 1, 7, progress=shares.append, **LENGTHS))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1) and shares[0] < 0.4
    for part in [(-1, 3), (3, 411), (5, 4)]:
        with pytest.raises(ValueError, match="are not among 0 to 410"):
            list(segments.sample_long(compiled_net, z_q, 1, 7, part=part))
    with pytest.raises(ValueError, match="speaker is not"):
        list(segments.sample_long(compiled_net, z_q, 2, 7))


def test_random_numbers_belong_to_places():
    whole = segments.uniforms(5, 0, 1000)
    assert len(np.unique(whole)) == 1000 and 0.45 < whole.mean() < 0.55
    for begin, end in [(0, 10), (1, 2), (6, 6), (399, 1000), (640, 701)]:
        assert np.array_equal(segments.uniforms(5, begin, end), whole[begin:end])
    assert not np.any(segments.uniforms(6, 0, 1000) == whole)


def test_a_seam_between_two_phases_does_not_click():
    """A voice of 120 Hz in two drawings, out of step: the seam bends little more than the voice does itself."""
    t = np.arange(800) / 16_000
    for shift in np.linspace(0.5, 3, 6):
        one, other = (
            np.sin(2 * np.pi * 120 * t + phase).astype(np.float32) + 0.3 * np.sin(2 * np.pi * 240 * t + 2 * phase)
            for phase in (0, shift)
        )
        joined = segments.join(one, other)
        assert np.array_equal(joined[:1], one[:1]) or np.array_equal(joined[-1:], other[-1:])
        bend = np.abs(np.diff(joined, 2)).max()
        natural = np.abs(np.diff(one, 2)).max()
        cuts = [np.abs(np.diff(np.concatenate([one[:n], other[n:]]), 2)).max() for n in range(50, 750, 10)]
        assert bend < 1.7 * natural < min(cuts)


def test_a_seam_lies_where_the_drawings_agree():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 500)).astype(np.float32)
    other[200:264] = one[200:264]
    joined = segments.join(one, other)
    assert np.array_equal(joined[:264], one[:264]) and np.array_equal(joined[200:], other[200:])
    assert np.array_equal(segments.join(one[:10], one[:10]), one[:10])
    assert segments.join(one[:0], one[:0]).size == 0
