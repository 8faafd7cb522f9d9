import numpy as np
import pytest
import torch

from vqcli.evaluation import metrics
from vqcli.nets.layers.ms_ssim import ms_ssim


@pytest.mark.parametrize("shape", [(192, 192, 3), (161, 200, 3), (97, 64, 1), (20, 33, 3)])
def test_it_equals_what_evaluation_measures(picture, shape):
    height, width, channels = shape
    one = picture(height, width)[..., :channels]
    noise = np.random.default_rng(0).integers(-20, 21, one.shape)
    other = np.clip(one + noise, 0, 255).astype(np.uint8)
    x, y = (torch.tensor(pixels).movedim(-1, 0)[None] / 255 - 0.5 for pixels in (one, other))
    both = ms_ssim(torch.cat([x, x]), torch.cat([y, x]))
    assert both.tolist() == pytest.approx([metrics.ms_ssim(one, other), 1.0], abs=1e-5)


def test_its_gradient_leads_to_the_picture(picture):
    x = torch.tensor(picture(64, 64)).movedim(-1, 0)[None] / 255 - 0.5
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    before = ms_ssim(x, y)
    before.sum().backward()
    assert torch.isfinite(y.grad).all()
    assert ms_ssim(x, y + 5 * y.grad) > before


def test_flat_pictures_have_a_gradient():
    x = torch.zeros(1, 3, 32, 32)
    y = torch.full_like(x, 0.2).requires_grad_()
    ms_ssim(x, y).sum().backward()
    assert torch.isfinite(y.grad).all()


def test_too_small():
    with pytest.raises(ValueError, match="holds no window"):
        ms_ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
