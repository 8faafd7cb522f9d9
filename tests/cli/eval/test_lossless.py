"""vq eval lossless."""

import json
from pathlib import Path

import pytest

from vqcli.media import image


@pytest.fixture
def folder(vq, picture):
    Path("set").mkdir()
    image.write(Path("set/colour.png"), picture(40, 44))
    image.write(Path("set/grey.png"), picture(33, 20, 1))
    Path("set/broken.png").write_bytes(b"no picture")
    return "set"


def test_a_file_for_each_picture_and_codec(vq, folder):
    result = vq("eval", "lossless", folder, "--model", "scalar", "--json")
    assert result.exit_code == 3, result.stderr  # what could be read is measured, and one file could not
    assert "broken.png" in result.stderr
    rows = json.loads(result.stdout)
    assert [row["codec"] for row in rows] == ["scalar", "PNG", "WebP"] * 2
    for row in rows:
        values = 40 * 44 * 3 if row["picture"] == "colour.png" else 33 * 20
        assert row["values"] == values and row["bits_per_dim"] == 8 * row["size_bytes"] / values
        assert (row["codec"] == "scalar") == (row["codes_bytes"] is not None)
        assert row["codes_bytes"] is None or 0 < row["codes_bytes"] < row["size_bytes"]


def test_means_and_files(vq, folder):
    result = vq("eval", "lossless", folder, "--model", "vector", "--baselines", "WebP")
    assert "mean of 2" in result.stdout and "PNG" not in result.stdout
    assert "every file returned every pixel; lossless residuals by predicted" in result.stderr
    assert "grey.png" in vq("eval", "lossless", folder, "--model", "vector", "--all", "-n", "3").stdout


def test_what_does_not_fit(vq, folder):
    assert vq("eval", "lossless", folder, "--model", "vector", "--baselines", "JPEG").exit_code == 2
    assert vq("eval", "lossless", "missing/", "--model", "vector").exit_code == 2
    Path("none").mkdir()
    Path("none/broken.png").write_bytes(b"no picture")
    assert "none of the images" in vq("eval", "lossless", "none", "--model", "vector").stderr
