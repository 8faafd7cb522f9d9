import json

import pytest

from tests.evaluation.conftest import codec_arguments, record, two_stages, with_priors
from vqcli.evaluation.video import frames as measures


@pytest.fixture
def walked(home, make_model):
    """A recording of a walk, and the model `walked` with both priors."""
    record(home / "walk")
    model = make_model("walked", home / "models", **codec_arguments())
    return str(with_priors(model, ("pixelcnn", "frames")).info.folder)


def test_one_stage(vq, walked):
    result = vq("eval", "frames", "walk", "--model", walked, "-n", "4", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [point["codec"] for point in told["codecs"]] == ["walked", "WebP", "JPEG"]
    bits = {cost["under"]: cost["bits_per_code"] for cost in told["costs"]}
    assert bits["uniform"] == 3 and measures.PIXELCNN in bits and measures.BEFORE in bits
    table = vq("eval", "frames", "walk", "--model", walked, "-n", "4", "--baselines", "", "--device", "cpu")
    assert table.exit_code == 0, table.stderr
    assert "PSNR dB" in table.stdout and "WebP" not in table.stdout and measures.NOTHING in table.stdout


def test_two_stages(vq, home, walked):
    model = str(two_stages(home / "models").info.folder)
    result = vq("eval", "frames", "walk", "--model", model, "-n", "4", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["payload_bits"] == 4 and told["places"] is None
    table = vq("eval", "frames", "walk", "--model", model, "-n", "4", "--device", "cpu")
    assert "another frame" in table.stdout and "4 bits of codes a frame" in table.stderr


def test_what_cannot_be(vq, home, walked):
    for arguments, says in (
        (["nowhere", "--model", walked], "nowhere is not a recording"),
        (["walk", "--model", walked, "-n", "1"], "one frame has no other"),
        (["walk", "--model", walked, "--baselines", "WebM"], "no codec WebM"),
        (["walk"], "--model"),
    ):
        result = vq("eval", "frames", *arguments, "--device", "cpu")
        assert result.exit_code == 2 and says in result.stderr and not result.stdout
