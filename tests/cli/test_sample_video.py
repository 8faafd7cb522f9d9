import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vqcli.container import vqz
from vqcli.media import image, video
from vqcli.zoo import priors, registry, weights


@pytest.fixture
def playing(make_model, tmp_path, monkeypatch):
    """A model whose prior over video knows frames of 32 x 32, two of them before, and two actions, untrained."""
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    made = make_model("playing", folder=tmp_path / "own", **arguments)
    decoder = {"width": 8, "layers": 2, "hidden": 16}
    options = {"codebook_sizes": [8], "context": 2, "actions": 2, "width": 8, "blocks": 1, "condition": 4}
    options |= {"decoder": decoder}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("frames", options)
    description = {
        "family": "frames",
        "arguments": options,
        "codec": made.info.digest.hex(),
        "classes": ["left", "right"],
        "recipe": {"data": {"crop": 32}},
    }
    priors.save(made.info.folder, weights.packed(net.state_dict()), description)
    monkeypatch.setenv("VQ_MODELS", str(tmp_path / "own"))
    return "playing"


@pytest.fixture
def clip(home):
    """Five frames, as a folder of pictures cannot be: a GIF."""
    from vqcli.media import video_writing

    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)
    video_writing.write(Path("clip.gif"), iter(frames), 10_000)
    return Path("clip.gif")


def frames_of(path):
    with video.opened(Path(path)) as found:
        return np.stack(list(found.frames))


def test_a_clip_goes_on_by_actions(vq, playing, clip):
    arguments = ["sample", "--model", playing, "--from", clip, "--actions", "left*3 right", "--seed", "3"]
    result = vq(*arguments, "-o", "on.gif", "--json")
    assert result.exit_code == 0, result.stderr
    assert "1 clip of 4 frames, 2 given before -> on.gif (model playing, seed 3" in result.stderr
    [facts] = json.loads(result.stdout)
    assert facts["actions"] == ["left", "left", "left", "right"] and facts["given"] == 2
    assert frames_of("on.gif").shape == (6, 32, 32, 3)
    again = vq(*arguments, "-o", "on.gif")
    assert again.exit_code == 2 and "on.gif" in again.stderr


def test_video_is_what_a_model_of_video_draws(vq, playing):
    """Without a clip, without actions: out of nothing, clips side by side, ten frames, a GIF."""
    result = vq("sample", "--model", playing, "-n", "2", "--seed", "1")
    assert result.exit_code == 0, result.stderr
    assert frames_of("sample.gif").shape == (10, 32, 64, 3)
    assert vq("sample", "--frames", "3", "-o", "found.gif").exit_code == 0  # the model that has such a prior


def test_rows_of_frames_and_single_files(vq, playing):
    assert vq("sample", "--model", playing, "-n", "2", "--frames", "3", "-o", "rows.png").exit_code == 0
    assert image.read(Path("rows.png")).pixels.shape == (2 * 32 + 3 * 4, 3 * 32 + 4 * 4, 3)
    assert vq("sample", "--model", playing, "-n", "4", "--frames", "1", "-o", "square.png").exit_code == 0
    assert image.read(Path("square.png")).pixels.shape == (2 * 32 + 3 * 4, 2 * 32 + 3 * 4, 3)
    assert vq("sample", "--model", playing, "-n", "2", "--frames", "3", "-o", "folder").exit_code == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == ["001.gif", "002.gif"]


def test_codes_of_drawn_clips_decode(vq, playing):
    result = vq("sample", "--model", playing, "-n", "2", "--frames", "3", "--seed", "4", "-o", "codes.vqz")
    assert result.exit_code == 0, result.stderr
    header = vqz.read(Path("codes-002.vqz")).header
    assert header.modality == "video" and header.size == (32, 32, 3, 10_000)
    assert header.metadata == {"drawn_from": "frames", "sample": "1", "seed": "4"}
    assert vq("decode", "codes-002.vqz", "-o", "decoded.gif").exit_code == 0
    # what was drawn goes on, from its codes
    more = vq("sample", "--model", playing, "--from", "codes-002.vqz", "--frames", "2", "-o", "more.gif")
    assert more.exit_code == 0, more.stderr
    assert np.array_equal(frames_of("more.gif")[:2], frames_of("decoded.gif")[-2:])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--actions", "jump"], 5, "knows no jump"),
        (["--actions", "left*"], 2, "cannot be read"),
        (["--actions", "left*2", "--frames", "3"], 2, "3 frames and 2 actions"),
        (["--class", "fox"], 2, "--class is for images"),
        (["--frames", "3", "--prior", "uniform"], 2, "--prior uniform is no prior over video"),
        (["--size", "64x64"], 2, "--height is for images"),
        (["--from", "short.gif"], 2, "looks at 2 frames, and it has 1"),
        (["--from", "large.gif"], 2, "frames of 32 x 32 pixels, and those of large.gif are 40 x 24"),
        (["--from", "no.gif"], 3, "no.gif"),
        (["--frames", "2", "-o", "x.xyz"], 2, "xyz"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(vq, playing, arguments, code, says):
    from vqcli.media import video_writing

    for name, shape in {"short.gif": (1, 32, 32, 3), "large.gif": (4, 24, 40, 3)}.items():
        frames = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        video_writing.write(Path(name), iter(frames), 10_000)
    result = vq("sample", "--model", playing, *arguments)
    assert result.exit_code == code and says in result.stderr, result.stderr
    assert not Path("sample.gif").exists()


def test_other_models_draw_no_video(vq, playing):
    result = vq("sample", "--model", "vector", "--frames", "3")
    assert result.exit_code == 4 and "no model vector" in result.stderr
