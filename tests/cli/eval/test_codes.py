import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.eval.test_samples import shapes, with_prior  # noqa: F401
from vqcli.codec import tiling
from vqcli.data.dataset import Dataset
from vqcli.evaluation.image import rate_distortion
from vqcli.media import image
from vqcli.sampling.image import data_of
from vqcli.zoo import loading, priors


@pytest.fixture
def folder(vq, picture):
    Path("set").mkdir()
    for height in (40, 48):
        image.write(Path(f"set/{height}.png"), picture(height, 56))
    return "set"


def costs(result, status=0):
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)["costs"]


def test_every_coder_and_order_0(vq, folder):
    rows = costs(vq("eval", "codes", folder, "--model", "vector", "--json"))
    found = {row["under"]: row for row in rows}
    assert list(found)[:4] == ["packed", "order 0", "histogram", "adaptive"]
    assert found["packed"]["bits_per_code"] == pytest.approx(3, abs=0.02)  # K = 8, whole bytes
    assert 0 < found["order 0"]["bits_per_code"] <= 3 and found["order 0"]["size_bytes"] is None
    for name in ("packed", "adaptive"):
        sizes = []
        for height in (40, 48):
            vq("encode", f"set/{height}.png", "--model", "vector", "--coder", name, "-o", "x.vqz", "--force")
            sizes.append(Path("x.vqz").stat().st_size)
        assert found[name]["size_bytes"] == round(np.mean(sizes))
        rates = [8 * size / (height * 56) for size, height in zip(sizes, (40, 48), strict=True)]
        assert found[name]["bits_per_pixel"] == pytest.approx(np.mean(rates))


def test_each_quality(vq, folder):
    rows = costs(vq("eval", "codes", folder, "--model", "scalar", "--qualities", "1,2.5", "--json"))
    assert sorted({row["quality"] for row in rows}) == [1, 2.5]
    assert sum(row["under"] == "order 0" for row in rows) == 2
    table = vq("eval", "codes", folder, "--model", "scalar", "--qualities", "1")
    assert "bits/code" in table.stdout and "adaptive" in table.stdout


def test_order_0_is_the_entropy_of_the_codes(vq, folder, vector_model):
    pictures = rate_distortion.to_measure(Path(folder))
    codes = np.concatenate(
        [tiling.encode_image(vector_model, pictures.pixels(i)).codes.reshape(6, -1) for i in (0, 1)], 1
    )
    shares = [np.bincount(group, minlength=8) / group.size for group in codes]
    entropy = np.mean([-sum(p * np.log2(p) for p in share if p) for share in shares])
    found = rate_distortion.code_costs(vector_model, pictures.names, pictures.pixels, [None])
    assert found[1].under == rate_distortion.ORDER_0 and found[1].bits_per_code == pytest.approx(entropy)
    area = (40 + 48) * 56
    assert found[1].bits_per_pixel == pytest.approx(entropy * codes.size / area)


def test_a_coder_without_tables_is_left_out(vq, folder, vector_model):
    from dataclasses import replace

    pictures, bare = rate_distortion.to_measure(Path(folder)), replace(vector_model, statistics=None)
    found = rate_distortion.code_costs(bare, pictures.names, pictures.pixels, [None])
    assert [cost.under for cost in found] == ["packed", "order 0", "adaptive"]


def test_a_pixelcnn_is_measured_given_the_class(vq, with_prior, shapes):  # noqa: F811
    with_prior("triangle", "disc")  # it knows no squares, and does without the class there
    rows = costs(vq("eval", "codes", "shapes/train", "--model", "tokens", "--json"))
    assert rows[-1]["under"] == "pixelcnn at 16 x 16, given the class" and rows[-1]["pictures"] == 18
    # once more by hand
    model = loading.load("tokens", "cpu")
    info = priors.find(model.info, "pixelcnn")
    net = priors.load_pixelcnn(info, model.device)
    pictures = rate_distortion.to_measure(Path("shapes/train"))
    assert isinstance(pictures, Dataset) and len(pictures) == 18
    batch = pictures.held_out_batch(data_of(info), 18)
    label = torch.tensor([{"triangle": 0, "disc": 1, "square": 2}[pictures.classes[n]] for n in batch.labels])
    nats = net.loss(rate_distortion.codes_of(model, batch.pixels), label)
    assert rows[-1]["bits_per_code"] == pytest.approx(float(nats) / np.log(2), rel=1e-5)
    assert rows[-1]["bits_per_pixel"] == pytest.approx(rows[-1]["bits_per_code"] / 16)


def test_train_is_left_out_where_there_is_a_val(vq, shapes):  # noqa: F811
    rows = costs(vq("eval", "codes", shapes, "--model", "vector", "--json"))
    assert rows[0]["pictures"] == 6


@pytest.mark.parametrize(
    ("measured", "loss"),
    [
        ({"float_bits_per_code": 4.0, "bits_per_code": 4.001}, 0.00025),
        ({"bits_per_code": 4.001}, None),
        ({}, None),
    ],
)
def test_loss_of_integers(measured, loss):
    info = priors.PriorInfo(Path(), {"measured": measured})
    assert rate_distortion.loss_of_integers(info) == (loss and pytest.approx(loss))


def test_bad_input(vq, folder):
    assert vq("eval", "codes", "nowhere").exit_code == 2
    assert vq("eval", "codes", folder, "--model", "scalar", "--qualities", "good").exit_code == 2
    Path("set/40.png").write_bytes(b"no picture")
    result = vq("eval", "codes", folder, "--model", "vector", "--json")
    assert "40.png" in result.stderr and costs(result, 3)[0]["pictures"] == 1
