"""The shipped models of small pictures: likelihoods that are worth something, classes that can be drawn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqcli
from vqcli.evaluation.image import baselines, lossless
from vqcli.experiments import figures
from vqcli.media import image
from vqcli.zoo import loading, priors, store

MODELS = Path(__file__).parents[2] / "models"
PARROTS = Path(vqcli.__file__).parent / "demo" / "parrots.webp"


@pytest.fixture(scope="module")
def cifar10():
    return loading.load(store.describe(MODELS / "cifar10"), "cpu")


@pytest.fixture(scope="module")
def thumbnails():
    """Four pieces of the demo photograph, reduced to 32 x 32."""
    photo = Image.fromarray(image.read(PARROTS).pixels)
    boxes = [(x, y, x + 256, y + 256) for x in (0, 384) for y in (0, 256)]
    return [np.asarray(photo.crop(box).resize((32, 32), Image.Resampling.LANCZOS)) for box in boxes]


def test_cifar10_has_the_latents_of_the_paper(cifar10, thumbnails):
    """Section 4.1: 8 x 8 x 10 latents of K = 512, 1.875 bits/dim under the uniform prior."""
    encoded = vqcli.encode(thumbnails[0], cifar10)
    assert encoded.codes.shape == (10, 8, 8)
    assert cifar10.net.uniform_nats(32, 32) / np.log(2) / 3072 == pytest.approx(1.875)


def test_cifar10_stores_small_pictures_without_loss_in_fewer_bytes_than_png(cifar10, thumbnails):
    files = [lossless.encode_lossless(cifar10, pixels) for pixels in thumbnails]  # decoded again and compared there
    png = [baselines.encode_lossless(pixels, "PNG").size_bytes for pixels in thumbnails]
    assert sum(file.size for file in files) < sum(png)
    assert 1 in {file.coder for file in files}  # by the decoder's own distribution


@pytest.mark.parametrize("name, least", [("cifar10", 0.97), ("fashion-mnist", 0.8)])
def test_class_priors_know_more_than_frequencies(name, least):
    info = priors.find(store.describe(MODELS / name), "pixelcnn")
    assert len(info.classes) == 10
    assert info.description["measured"]["bits_per_code"] < least * info.description["measured"]["order_0"]


def test_shoes_are_drawn_lower_than_trousers():
    samples = vqcli.sample(
        loading.load(store.describe(MODELS / "fashion-mnist"), "cpu"), labels=["sneaker", "trouser"], count=4
    )
    assert samples.pixels.shape == (8, 28, 28, 3)
    sneakers, trousers = (samples.pixels[first : first + 4, :8].mean() for first in (0, 4))  # at the top
    assert sneakers < 10 < 20 < trousers


def test_no_experiment_that_runs_here_lacks_a_figure():
    """What is open is what nothing here can run yet."""
    for row in figures.rows(MODELS):
        assert row.figures or not row.experiment.variants, row.experiment.name
