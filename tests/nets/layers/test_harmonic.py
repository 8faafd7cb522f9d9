import math

import torch

from vqcli.nets.layers import harmonic, operators
from vqcli.nets.layers.harmonic import (
    HOP,
    HarmonicDecoder,
    centred_spectra,
    frame_phases,
    overlap_add,
    pitch_frames,
    pulse_train,
)


def test_frames_of_positions_run_between_their_middles():
    frames = pitch_frames(torch.tensor([[100.0, 100.0, 200.0, 200.0, 0.0, 150.0]]))
    assert frames.shape == (1, 12)
    assert (frames[0, 8:10] == 0).all()
    assert torch.allclose(frames[0, 10:], torch.tensor([150.0, 150.0]))  # nothing comes over from the unvoiced
    assert (frames[0, :8].diff() >= 0).all()
    assert math.isclose(float(frames[0, 0]), 100.0, rel_tol=1e-5)


def test_phases_add_up_to_the_cycles_of_the_frames():
    f0 = torch.tensor([[0.0, 100.0, 100.0, 120.0, 0.0, 0.0, 80.0, 80.0]])
    phases = frame_phases(f0)
    assert phases[0, 1] == 0 and phases[0, 6] == 0  # each voiced run starts anew
    assert math.isclose(float(phases[0, 2]), 0.0, abs_tol=1e-9)  # 100 Hz x 10 ms: one whole cycle
    assert math.isclose(float(phases[0, 3]), (100 + 2.5) / 100 - 1, abs_tol=1e-6)
    assert math.isclose(float(phases[0, 7]), 0.8, abs_tol=1e-6)


def test_pulses_have_all_harmonics_at_one_strength_and_join_at_frames():
    f0 = torch.full((1, 100), 200.0)
    pulses = pulse_train(f0, frame_phases(f0))
    spectrum = torch.fft.rfft(pulses[0]).abs()  # 1 s: a bin for each Hz
    peaks = spectrum[200:7601:200]
    assert (peaks / peaks.mean() - 1).abs().max() < 0.02
    between = spectrum.clone()
    between[::200] = 0
    assert between.max() < 0.02 * peaks.mean()


def test_overlap_add_undoes_the_spectra():
    x, window = torch.randn(2, HOP * 20), torch.hann_window(640)
    again = overlap_add(centred_spectra(x, window), window)
    inside = slice(640, -640)
    assert torch.allclose(again[:, inside], x[:, inside], atol=1e-5)


def test_windows_of_a_decoding_fit_together():
    torch.manual_seed(0)
    net = HarmonicDecoder(8, 4, width=16, blocks=2, bands=20).eval()
    torch.nn.init.normal_(net.out.weight, std=0.5)
    P = 60
    z, hz = torch.randn(1, 8, P), torch.where(torch.rand(1, P) < 0.7, 120.0 + 40 * torch.rand(1, P), 0.0)
    f0 = pitch_frames(hz)
    phases, noise = frame_phases(f0), torch.randn(1, P * 320)
    voice, register = torch.randn(1, 4), torch.tensor([4.9])
    with torch.no_grad():
        whole = net(z, f0, phases, noise, voice, register)
        margin = -(-net.reach // 2) + 1
        first, last = 25, 35
        outer = slice(first - margin, last + margin)
        at, samples = slice(outer.start * 2, outer.stop * 2), slice(outer.start * 320, outer.stop * 320)
        part = net(z[:, :, outer], f0[:, at], phases[:, at], noise[:, samples], voice, register)
    inner = part[:, margin * 320 : -margin * 320]
    assert torch.allclose(inner, whole[:, first * 320 : last * 320], atol=1e-5)


def test_what_is_unvoiced_has_no_harmonic_part():
    f0 = torch.zeros(1, 10)
    assert not pulse_train(f0, frame_phases(f0)).any()
    assert harmonic.LOWEST_HZ > 0


def test_spectra_as_operators_are_those_of_transforms():
    """What a graph computes by convolutions is what the net computes by Fourier transforms."""
    torch.manual_seed(0)
    window, excitations = torch.hann_window(640), (torch.randn(2, HOP * 9), torch.randn(2, HOP * 9))
    gains = [torch.rand(2, 321, 9) for _ in excitations]
    edged = [harmonic._edged(x, 640) for x in excitations]
    there = harmonic._without_edges(operators.filtered(edged, gains, window, HOP), window)
    assert torch.allclose(there, harmonic.filtered(excitations, gains, window), atol=1e-5)
    magnitudes = operators.magnitudes(edged[0], window, HOP)
    assert torch.allclose(magnitudes, harmonic.centred_magnitudes(excitations[0], window), atol=1e-4)


def test_phases_of_a_batch_are_those_of_each():
    f0 = torch.tensor([[100.0, 110.0, 0.0, 90.0], [0.0, 0.0, 130.0, 140.0]])
    both = frame_phases(f0)
    for row, phases in zip(f0, both, strict=True):
        assert torch.equal(torch.where(row > 0, phases, 0), torch.where(row > 0, frame_phases(row[None])[0], 0))
