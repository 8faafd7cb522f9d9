import pytest
import torch

from vqcli.nets.layers.spectra import short_time_spectra, waveforms


@pytest.mark.parametrize(("n", "hop"), [(16, 4), (8, 8), (16, 5)])
def test_it_equals_torch(n, hop):
    """Values bit for bit, gradients within rounding."""
    x = torch.randn(2, 61, generator=torch.Generator().manual_seed(0))
    window, weight = torch.hann_window(n), torch.randn(n // 2 + 1, 1)
    found, wanted = [], []
    for of in (found, wanted):
        y = x.clone().requires_grad_()
        if of is found:
            spectra = short_time_spectra(y, window, hop)
        else:
            spectra = torch.stft(y, n, hop, window=window, center=False, return_complex=True)
        ((spectra.real * weight).square() + (spectra.imag + 0.3) * weight).sum().backward()
        of += [spectra.detach(), y.grad]
    assert torch.equal(found[0], wanted[0])
    assert torch.allclose(found[1], wanted[1], atol=1e-4)


@pytest.mark.parametrize(("n", "hop"), [(16, 4), (12, 6), (24, 8)])
def test_waveforms_come_back_from_their_spectra(n, hop):
    x = torch.randn(2, 10 * hop, generator=torch.Generator().manual_seed(0))
    half = (n - hop) // 2
    spectra = short_time_spectra(torch.nn.functional.pad(x, (half, half)), torch.hann_window(n), hop)
    assert spectra.shape[2] == 10
    spectra = spectra.transpose(1, 2)
    assert torch.allclose(waveforms(spectra.abs(), spectra.angle(), torch.hann_window(n), hop), x, atol=1e-5)
