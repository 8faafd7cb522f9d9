import json
from pathlib import Path

import pytest

from vqcli.cli import console
from vqcli.evaluation.image.rate_distortion import Point, margins
from vqcli.media import image


@pytest.fixture
def folder(vq, picture):
    Path("set").mkdir()
    for height in (40, 48):
        image.write(Path(f"set/{height}.png"), picture(height, 56))
    Path("set/broken.png").write_bytes(b"no picture")
    return "set"


def test_a_row_for_each_quality_and_codec(vq, folder):
    result = vq("eval", folder, "--model", "scalar", "--qualities", "1,2.5", "--baselines", "JPEG,WebP", "--json")
    assert result.exit_code == 3, result.stderr  # what could be read is measured, and one file could not
    assert "broken.png" in result.stderr
    found = json.loads(result.stdout)
    assert found["model"] == "scalar" and len(bytes.fromhex(found["digest"])) == 8 and found["machine"]["torch"]
    rows = found["points"]
    assert [(row["quality"], row["codec"]) for row in rows] == [
        (quality, codec) for quality in (1, 2.5) for codec in ("scalar", "JPEG", "WebP")
    ]
    for row in rows:
        assert row["picture"] == "mean of 2" and row["bits_per_pixel"] > 0 and row["psnr_db"] > 5


@pytest.mark.fault("06 vq eval")
def test_bad_files_are_left_out_and_told_by_the_status(vq, folder):
    options = ("--model", "scalar", "--qualities", "1", "--baselines", "")
    for arguments in (("eval", folder), ("eval", "rd", folder, "--json"), ("eval", "codes", folder)):
        result = vq(*arguments, *(options if "codes" not in arguments else options[:4]))
        assert result.exit_code == 3 and "vq: 1 file left out" in result.stderr and result.stdout, result.stderr
    Path("set/broken.png").unlink()
    assert vq("eval", folder, *options).exit_code == 0
    Path("bad.png").write_bytes(b"no picture")
    assert vq("eval", "bad.png", *options).exit_code == 3


@pytest.mark.fault("06 vq eval")
def test_json_has_no_nan(capsys):
    console.emit_json({"a": [float("nan"), 1.5], "b": (float("inf"),)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": [None, 1.5], "b": [None]}


def test_models_stand_beside_codecs(vq, folder):
    options = ("--model", "scalar", "--qualities", "2,3", "--json")
    points = json.loads(vq("eval", folder, *options, "--baselines", "JPEG,vector,scalar").stdout)["points"]
    assert [row["codec"] for row in points] == ["scalar", "JPEG", "vector"] * 2  # scalar beside itself is one row
    [own] = json.loads(vq("eval", folder, "--model", "vector", "--baselines", "", "--json").stdout)["points"]
    assert all(points[number]["psnr_db"] == own["psnr_db"] for number in (2, 5))  # it has one rate
    unknown = vq("eval", folder, *options, "--baselines", "vektor")
    assert unknown.exit_code == 2 and "did you mean vector?" in unknown.stderr


@pytest.mark.fault("05 folders")
def test_what_is_left_out_is_said(vq, folder):
    Path("set/broken.png").unlink()
    options = ("--model", "scalar", "--qualities", "2", "--baselines", "")
    assert vq("eval", folder, *options).exit_code == 0
    Path("set/scan.jp2").write_bytes(b"")
    result = vq("eval", folder, *options)
    assert result.exit_code == 3 and "vq cannot read .jp2" in result.stderr and "1 file left out" in result.stderr


def test_usage_is_told_where_codes_are_tokens(vq, folder):
    said = vq("eval", folder, "--model", "vector", "--baselines", "").stderr
    assert "of each codebook, perplexity" in said


def test_margins():
    def point(codec, rate, psnr_db):
        return Point(codec, 1, "mean", 100, rate, psnr_db, psnr_db / 100)

    points = [point("own", 0.1, 20), point("own", 0.4, 30), point("JPEG", 0.2, 24), point("JPEG", 0.5, 40)]
    (psnr_db, ms_ssim) = margins(points)["JPEG"]
    assert psnr_db == [pytest.approx(1)]  # halfway in log(rate), 25 dB; 0.5 lies outside
    assert ms_ssim == [pytest.approx(0.01)]


def test_bd_rates_are_told_and_in_the_json(vq, folder):
    options = ("--model", "scalar", "--qualities", "1,2,3", "--baselines", "JPEG")
    told = vq("eval", folder, *options)
    found = json.loads(vq("eval", folder, *options, "--json").stdout)["bd_rate"]
    for delta in found:
        assert delta["codec"] == "JPEG" and delta["low"] < delta["high"] and delta["images"] in (1, 2)
        assert f"BD-rate against JPEG: {delta['percent']:+.1f} % in {delta['measure']}" in told.stderr
    outside = vq("eval", folder, *options, "--rates", "500,600", "--json")
    assert json.loads(outside.stdout)["bd_rate"] == []


def test_extras_are_named(vq, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = vq("eval", folder, "--model", "scalar", "--ssimulacra2")
    assert missing.exit_code == 2 and "pip install 'vqcli[perception]'" in missing.stderr


def test_rates_are_those_of_files(vq, folder):
    Path("set/broken.png").unlink()
    rows = json.loads(vq("eval", folder, "--model", "vector", "--baselines", "", "--all", "--json").stdout)["points"]
    for row in rows:
        vq("encode", f"set/{row['picture']}", "--model", "vector", "-o", "x.vqz", "--force")
        assert row["size_bytes"] == Path("x.vqz").stat().st_size


def test_plot(vq, folder):
    pytest.importorskip("matplotlib")
    result = vq("eval", folder, "--model", "scalar", "--qualities", "1,3", "--baselines", "JPEG", "--plot", "rd.png")
    assert result.exit_code == 3, result.stderr
    assert image.read(Path("rd.png")).pixels.std() > 5
    again = vq("eval", folder, "--model", "scalar", "--plot", "rd.png")
    assert again.exit_code == 2 and "rd.png exists" in again.stderr


def test_bad_input(vq, folder):
    assert vq("eval", "nowhere", "--model", "scalar").exit_code != 0
    assert vq("eval", folder, "--model", "scalar", "--qualities", "good").exit_code == 2
    assert vq("eval", folder, "--model", "scalar", "--baselines", "BMP").exit_code == 2
    for rates in ("1.2,0.15", "0.15", "low,high"):
        wrong = vq("eval", folder, "--model", "scalar", "--rates", rates)
        assert wrong.exit_code == 2 and "--rates 0.15,1.2" in wrong.stderr


def test_help_explains_all_parts(vq):
    listed = vq("eval", "--help").stdout
    for name in ("rd", "samples", "codes", "lossless", "likelihood", "conversion", "phonemes", "frames", "video"):
        assert f"\n  {name} " in listed
    told = vq("eval", "rd", "--help").stdout
    for line in ("vq eval rd images/", "vq eval images/", "--baselines", "--plot", "Usage: vq eval rd "):
        assert line in told
    assert "classifier" in vq("eval", "samples", "--help").stdout


def test_a_folder_named_like_a_command(vq, folder):
    """The word is the command, a path is a path, and options may come first."""
    Path(folder).rename("samples")
    options = ("--model", "vector", "--baselines", "", "--json")
    for words in (("samples/", *options), ("./samples", *options), (*options, "samples")):
        result = vq("eval", *words)
        assert result.exit_code == 3 and json.loads(result.stdout)["points"][0]["picture"] == "mean of 2", result.stderr
    told = vq("eval", "samples", *options)
    assert told.exit_code == 2 and "vq eval samples" in told.stderr  # its usage


def test_wrong_options_of_each_part(vq, folder):
    assert vq("eval", folder, "--guidance", "2").exit_code == 2
    assert vq("eval", "codes", folder, "--baselines", "JPEG").exit_code == 2


def test_tune_and_effort_are_measured(vq, folder):
    def measured(*options):
        args = ("eval", "rd", folder, "--model", "photo-2", "--qualities", "4", "--baselines", "", "--json", *options)
        return json.loads(vq(*args).stdout)

    plain, psnr, effort = measured(), measured("--tune", "psnr"), measured("--effort", "1")
    [of_plain], [of_psnr], [of_effort] = (each["points"] for each in (plain, psnr, effort))
    assert of_plain["quality"] == of_psnr["quality"] == 4
    assert (psnr["tune"], psnr["effort"], effort["effort"]) == ("psnr", 0, 1)
    assert of_psnr["size_bytes"] != of_plain["size_bytes"] != of_effort["size_bytes"]
    assert "no tune psnr" in vq("eval", "rd", folder, "--model", "scalar", "--tune", "psnr").stderr
    assert "cannot search" in vq("eval", "rd", folder, "--model", "scalar", "--effort", "2").stderr
