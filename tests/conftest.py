"""`pytest --regen` writes the golden files anew; look at the difference before keeping it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

# One thread: tiny nets gain nothing from more, and on busy cores waiting threads slow torch tenfold.
for name, value in {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)

if TYPE_CHECKING:
    from vqcli.zoo.loading import LoadedModel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture
def regen(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--regen")


@pytest.fixture(scope="session", autouse=True)
def own_pitch_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache."""
    from vqcli.data import pitch_cache

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pitch_cache, "folder", lambda: folder)
        yield


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random models, as VQ_MODELS may name it."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def make_model(models_folder: Path) -> Callable[..., LoadedModel]:
    """make_model(name, **arguments of ImageVQVAE): saved and loaded again, with statistics fitted on random codes."""
    import torch

    from vqcli.entropy import statistics
    from vqcli.zoo import loading, registry

    def make(name: str, folder: Path = models_folder, **arguments: Any) -> LoadedModel:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = registry.build("vqvae2d", arguments)
            net.train()(torch.rand(8, 3, 64, 64).round() - 0.5)  # a codebook begins as encoder outputs
        sizes = np.array(net.quantizer.codebook_sizes)
        spread = np.random.default_rng(0).normal(0.5, 0.15, (len(sizes), 30, 30)).clip(0, 0.999)
        codes = (spread * sizes[:, None, None]).astype(np.int32)
        description = {"family": "vqvae2d", "arguments": arguments, "modality": "image"}
        return loading.load(
            loading.save(folder / name, net, statistics.fit([codes], sizes.tolist()), description), "cpu"
        )

    return make


@pytest.fixture(scope="session")
def scalar_model(make_model: Callable[..., LoadedModel]) -> LoadedModel:
    """Stride 4, three groups of 9, 9 and 15 codes, three qualities."""
    quantizer = {"kind": "scalar", "limits": [4, 4, 7], "qualities": 3, "gain_range": [6.0, 40.0]}
    arguments = {"widths": [8, 8], "dim": 3, "blocks": 1, "kernel": 5, "activation": "gdn", "quantizer": quantizer}
    return make_model("scalar", **arguments)


@pytest.fixture(scope="session")
def vector_model(make_model: Callable[..., LoadedModel]) -> LoadedModel:
    """Stride 4, three residual levels of two groups, K = 8, no qualities."""
    quantizer = {"kind": "vector", "K": 8, "groups": 2, "levels": 3}
    return make_model("vector", widths=[8, 8], dim=4, blocks=1, quantizer=quantizer)


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """picture(height, width, channels=3): seeded noise over slopes, uint8 [height, width, channels]."""

    def make(height: int, width: int, channels: int = 3) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        slopes = (3 * rows + 5 * columns)[..., None] * np.arange(1, channels + 1)
        noise = np.random.default_rng(height * 1000 + width).integers(0, 60, (height, width, channels))
        return (np.abs(slopes % 390 - 195) + noise).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three made voices, low, middle and high, with eight clips of 0.8 to 1.2 s each."""
    from vqcli.media import audio

    folder = tmp_path_factory.mktemp("clips")
    for speaker, hz in (("low", 90.0), ("middle", 140.0), ("high", 220.0)):
        (folder / speaker).mkdir()
        for number in range(8):
            draw = np.random.default_rng([number, int(hz)])
            time = np.arange(round(16_000 * draw.uniform(0.8, 1.2))) / 16_000
            cycles = np.cumsum(hz * (1 + 0.1 * np.sin(2 * np.pi * (0.5 + number / 4) * time))) / 16_000
            hum = sum(np.cos(2 * np.pi * k * cycles) / k for k in range(1, 15))
            sound = 0.1 * hum * (np.sin(2 * np.pi * 1.5 * time + number) > -0.6) + draw.normal(0, 0.005, len(time))
            audio.write(folder / speaker / f"{number}.wav", sound[None].astype(np.float32), 16_000)
    return folder
