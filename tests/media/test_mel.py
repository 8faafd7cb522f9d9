import numpy as np
import pytest

from vqcli.media import mel


def tone(hz, seconds=1.0, size=0.1):
    return (size * np.sin(2 * np.pi * hz * np.arange(round(seconds * mel.RATE_HZ)) / mel.RATE_HZ)).astype(np.float32)


@pytest.mark.parametrize(("bands", "n_fft"), [(80, 512), (40, 256), (16, 128)])
def test_filters_are_triangles_of_weight_one_in_rising_order(bands, n_fft):
    filters = mel.filters(bands, n_fft)
    assert filters.shape == (bands, n_fft // 2 + 1)
    assert filters.min() >= 0
    np.testing.assert_allclose(filters.sum(1), 1, rtol=1e-5)
    centres = filters @ np.linspace(0, 8000, n_fft // 2 + 1)
    assert (np.diff(centres) >= 0).all()


def test_a_warp_moves_what_a_filter_looks_at():
    bins = np.linspace(0, 8000, 257)
    plain, higher = (mel.filters(warp=warp) @ bins for warp in (1.0, 1.1))
    middle = slice(20, 60)
    np.testing.assert_allclose(higher[middle] / plain[middle], 1.1, atol=0.03)


def test_frames_part_the_signal_and_find_the_tone():
    spectra = mel.log_mel(tone(1000))
    assert spectra.shape == (80, 100)
    loudest = spectra[:, 10:-10].mean(1).argmax()
    assert abs(mel.filters()[loudest] @ np.linspace(0, 8000, 257) - 1000) < 60


def test_long_signals_are_done_in_parts_that_fit_together():
    samples = np.random.default_rng(0).normal(0, 0.05, 160 * 3100).astype(np.float32)
    whole, end = mel.log_mel(samples), mel.log_mel(samples[160 * 2900 :])
    np.testing.assert_allclose(whole[:, 2910:], end[:, 10:], atol=1e-5)


def test_interpolation_from_bands_to_bins_keeps_a_flat_envelope():
    np.testing.assert_allclose(mel.bands_to_bins(80, 640).sum(1), 1, rtol=1e-5)


def test_cepstra_are_an_orthonormal_cosine_sum():
    spectra = np.random.default_rng(0).normal(size=(80, 7)).astype(np.float32)
    every = mel.cepstra(spectra, 80)
    np.testing.assert_allclose((every**2).sum(0), (spectra**2).sum(0), rtol=1e-4)
    np.testing.assert_allclose(mel.cepstra(spectra), every[:13], rtol=1e-4)
