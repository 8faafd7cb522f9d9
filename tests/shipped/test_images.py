"""What ships works, on the photograph that ships: the newcomer's first minute."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.entropy.coders import packed
from vqcli.evaluation import metrics
from vqcli.evaluation.image import baselines
from vqcli.media import image
from vqcli.pages import page
from vqcli.zoo import loading, priors, store

MODELS = Path(__file__).parents[2] / "models"
NAMES = sorted(path.parent.name for path in MODELS.glob("*/model.safetensors"))
PARROTS = Path(vqcli.__file__).parent / "demo" / "parrots.webp"


@pytest.fixture(scope="module")
def photo():
    return loading.load(store.describe(MODELS / "photo"), "cpu")


@pytest.fixture(scope="module")
def tokens():
    return loading.load(store.describe(MODELS / "tokens"), "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_models_are_small_and_have_cards(name):
    assert (MODELS / name / "model.safetensors").stat().st_size <= 8 * 2**20
    card = (MODELS / name / "README.md").read_text()
    for word in ("Trained on", "Measured", "Not good at", "vq eval"):
        assert word in card
    description = store.describe(MODELS / name).description
    assert description["steps"] > 1000 and description["data_licence"]


def test_models_fit_together():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 40 * 2**20


@pytest.mark.parametrize("quality", [1, 5, 9])
def test_photo_is_better_than_jpeg_at_equal_bytes(photo, quality):
    original = image.read(PARROTS).pixels
    encoded = vqcli.encode(original, photo, quality=quality)
    decoded = vqcli.decode(encoded, photo).pixels
    jpeg = baselines.at_bytes(original, "JPEG", len(encoded.data)).pixels
    assert metrics.psnr(original, decoded) > metrics.psnr(original, jpeg)
    assert metrics.ms_ssim(original, decoded) > metrics.ms_ssim(original, jpeg)


def test_qualities_are_a_scale(photo):
    original = image.read(PARROTS).pixels
    encoded = [vqcli.encode(original, photo, quality=quality) for quality in (1, 2.5, 4, 6.3, 8, 10)]
    rates = [item.bits_per_pixel for item in encoded]
    assert rates == sorted(rates) and rates[-1] > 3 * rates[0]
    errors = [metrics.mse(original, vqcli.decode(item, photo).pixels) for item in encoded]
    assert errors == sorted(errors, reverse=True)


def test_tokens_are_those_of_the_paper(tokens):
    """Section 4.2: stride 4, one code of K = 512 at each position, 42.6 times fewer bits."""
    original = image.read(PARROTS).pixels
    encoded = vqcli.encode(original, tokens, coder="packed")
    assert encoded.codes.shape == (1, 128, 192)
    assert len(np.unique(encoded.codes)) > 128
    bits = 8 * packed.size_bytes(encoded.codes.shape, encoded.header.codebook_sizes)
    assert original.size * 8 / bits == pytest.approx(42.67, abs=0.01)
    assert metrics.psnr(original, vqcli.decode(encoded, tokens).pixels) > 28


@pytest.mark.parametrize("name", ["photo", "tokens"])
def test_overhead(name, request):
    """A picture of one chunk costs at most 64 bytes beyond its codes."""
    model = request.getfixturevalue(name)
    encoded = vqcli.encode(image.read(PARROTS).pixels, model)
    assert len(encoded.payloads) == 1
    assert len(encoded.data) - len(encoded.payloads[0]) <= 64


def test_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQ_MODELS", str(MODELS))
    result = CliRunner().invoke(app, ["demo", "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    everything = json.loads(result.stdout)
    points, spoken = ([row for row in everything if (key in row)] for key in ("codec", "times_real_time"))
    again = CliRunner().invoke(app, ["demo"])
    assert again.exit_code == 2 and "--force" in again.stderr
    assert [point["codec"] for point in points[::2]] == ["photo-2", "photo-2", "photo-2", "tokens"]
    assert 1_000_000 < Path("vq-demo/index.html").stat().st_size <= page.BUDGET
    row = image.read(Path("vq-demo/side-by-side.png")).pixels
    assert row.shape[1] > 5 * 300
    assert [row["name"] for row in spoken] == ["talk-level-1.wav", "talk-levels-3.wav", "talk-as-p225.wav"]
    assert all(Path("vq-demo", row["name"]).stat().st_size > 100_000 for row in spoken)
    assert spoken[0]["kbit_per_s"] < 0.65 and image.read(Path("vq-demo/talk.png")).pixels.shape[0] > 400
    for name in ("photo-2-q2", "photo-2-q5", "photo-2-q9", "tokens"):
        assert Path(f"vq-demo/{name}.vqz").stat().st_size in [point["size_bytes"] for point in points]


@pytest.mark.parametrize("name", ["photo", "tokens"])
def test_the_exact_prior_beats_every_other_coder(name, request):
    model, original = request.getfixturevalue(name), image.read(PARROTS).pixels
    sizes = {coder: len(vqcli.encode(original, model, coder=coder).data) for coder in ("adaptive", "prior", "auto")}
    assert sizes["auto"] == sizes["prior"] < 0.96 * sizes["adaptive"]
    measured = priors.find(model.info, "exact").description["measured"]
    assert measured["bits_per_code"] <= 1.001 * measured["float_bits_per_code"]


def test_kit_foxes_are_drawn_as_red_foxes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQ_MODELS", raising=False)
    result = CliRunner().invoke(app, ["sample", "--prior", "pixelcnn", "--class", "kit_fox", "-n", "1", "--seed", "7"])
    assert result.exit_code == 0, result.stderr
    assert "red foxes" in result.stderr
    assert image.read(Path("sample.png")).pixels.shape == (64, 64, 3)


def test_the_class_prior_knows_more_than_frequencies(tokens):
    measured = priors.find(tokens.info, "pixelcnn").description["measured"]
    assert measured["bits_per_code"] < 0.9 * measured["order_0"]
