import json
from pathlib import Path

import pytest

from tests.sampling.test_image import add_prior
from vqcli.container import vqz
from vqcli.media import image


@pytest.fixture
def drawing(make_model, tmp_path, monkeypatch):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    made = make_model("drawing", folder=tmp_path / "own", **arguments)
    add_prior(made, remarks={"kit_fox": "this prior knows red foxes"})
    monkeypatch.setenv("VQ_MODELS", str(tmp_path / "own"))
    return "drawing"


def test_a_grid_of_classes(vq, drawing):
    result = vq("sample", "--model", drawing, "--class", "fox", "--class", "kit_fox", "-n", "3", "--seed", "2")
    assert result.exit_code == 0, result.stderr
    assert "kit_fox: this prior knows red foxes" in result.stderr
    assert "6 images of fox, kit_fox -> sample.png (model drawing, seed 2)" in result.stderr
    height, width, _ = image.read(Path("sample.png")).pixels.shape
    assert height == 2 * 32 + 3 * 4 and width > 3 * 32
    again = vq("sample", "--model", drawing)
    assert again.exit_code == 2 and "sample.png" in again.stderr


def test_single_files_of_pictures_and_codes(vq, drawing):
    assert vq("sample", "--model", drawing, "-o", "folder", "-n", "2", "--class", "cat").exit_code == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == ["001-cat.png", "002-cat.png"]
    result = vq("sample", "--model", drawing, "-o", "codes.vqz", "-n", "2", "--seed", "9", "--class", "cat", "--json")
    files = [row["file"] for row in json.loads(result.stdout)]
    assert files == ["codes-001.vqz", "codes-002.vqz"]
    metadata = vqz.read(Path("codes-002.vqz")).header.metadata
    assert metadata == {"class": "cat", "drawn_from": "pixelcnn", "sample": "1", "seed": "9"}
    assert vq("decode", "codes-001.vqz", "--model", drawing, "-o", "decoded.png").exit_code == 0
    assert vq("sample", "--model", drawing, "-o", "one.vqz", "-n", "1").exit_code == 0
    assert Path("one.vqz").exists()


def test_completion(vq, drawing, photo):
    result = vq("sample", "--model", drawing, "--from", str(photo), "--keep", "left", "-n", "2", "-o", "c.png")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--class", "foks"], 5, "did you mean fox"),
        (["--size", "64"], 2, "use --height and --width"),
        (["--temperature", "-1"], 2, "temperature"),
        (["--prior", "pixel"], 2, "did you mean pixelcnn"),
        (["--seed", "-3"], 2, "seed"),
        (["--from", "nowhere.png"], 3, "nowhere.png"),
        (["-n", "0"], 2, ""),
    ],
)
def test_what_cannot_be(vq, drawing, arguments, code, says):
    result = vq("sample", "--model", drawing, *arguments)
    assert result.exit_code == code and says in result.stderr
    assert not Path("sample.png").exists()
