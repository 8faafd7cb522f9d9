import json
from pathlib import Path

import pytest

from tests.evaluation.conftest import codec_arguments, record, with_priors
from vqcli.evaluation.video import actions as measures
from vqcli.evaluation.video import h264
from vqcli.media import image

QUICK = ("-n", "2", "--frames", "3", "--minutes", "0.01", "--device", "cpu")


@pytest.fixture
def walked(home, make_model, monkeypatch):
    """A recording of a walk, the model `walked` with a prior over video, and shorter runs."""
    monkeypatch.setattr(measures, "LENGTH", 9)
    monkeypatch.setattr(measures, "CODED", 6)
    record(home / "walk")
    return str(with_priors(make_model("walked", home / "models", **codec_arguments()), ("frames",)).info.folder)


def test_figures_and_a_picture(vq, walked):
    pytest.importorskip("av")
    options = ("--model", walked, "--clips", "1", "--plot", "futures.webp", *QUICK)
    result = vq("eval", "video", "walk", *options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["chance"] == 0.5 and told["rates"][measures.CONDITIONED]["transitions"] == 2 * 2 * 3
    assert told["futures"]["by_seeds"] > 0 and len(told["clips"]) == 6
    assert "left, right from each start" in result.stderr
    assert image.read(Path("futures.webp")).pixels.shape[0] == 2 * 2 * (24 + 2) + 2


def test_table(vq, walked, monkeypatch):
    monkeypatch.setenv("VQ_MODELS", str(Path(walked).parent))
    result = vq("eval", "video", "walk", "--clips", "0", *QUICK)  # the model that has such a prior
    assert result.exit_code == 0, result.stderr
    assert (
        measures.UNCONDITIONED in result.stdout and "chance" in result.stdout and "bytes a frame" not in result.stdout
    )
    assert "2 actions" in result.stderr or "M weights" in result.stderr


def test_clips_alone_need_no_prior_over_video(vq, walked):
    result = vq(
        "eval", "video", "walk", "--model", "vector", "-n", "0", "--clips", "1", "--baselines", "WebP", "--json"
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["clips"]) == 4 and "rates" not in told


def test_what_cannot_be(vq, walked, monkeypatch):
    without = vq("eval", "video", "walk", "--model", "vector", "--clips", "0", *QUICK)
    assert without.exit_code == 4 and "no prior over video" in without.stderr
    nothing = vq("eval", "video", "walk", "--model", walked, "-n", "0", "--clips", "0")
    assert nothing.exit_code == 2 and "no clip is sampled" in nothing.stderr
    missing = vq("eval", "video", "nowhere", "--model", walked, "--clips", "0", *QUICK)
    assert missing.exit_code == 2 and "nowhere is not a recording" in missing.stderr
    Path("there.png").write_bytes(b"")
    there = vq("eval", "video", "walk", "--model", walked, "--clips", "0", "--plot", "there.png", *QUICK)
    assert there.exit_code == 2 and "there.png exists" in there.stderr
    unknown = vq("eval", "video", "walk", "--model", walked, "--baselines", "WebM", *QUICK)
    assert unknown.exit_code == 2 and "no codec WebM" in unknown.stderr
    monkeypatch.setattr(h264.video, "available", lambda: False)
    extra = vq("eval", "video", "walk", "--model", walked, *QUICK)
    assert extra.exit_code == 2 and "vqcli[video]" in extra.stderr and len(extra.stderr.splitlines()) == 2
