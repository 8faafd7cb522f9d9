import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vqcli.media import image, video, video_writing
from vqcli.zoo import store

SCALAR = ("--model", "scalar", "--device", "cpu")


@pytest.fixture(autouse=True)
def default(monkeypatch):
    """The tiny model `scalar` is the one that pictures and clips are coded with unless another is named."""
    for modality in ("image", "video"):
        monkeypatch.setitem(store.DEFAULTS, modality, "scalar")


@pytest.fixture
def frames(picture):
    whole = picture(16, 30)
    return np.stack([whole[:, at : at + 20] for at in range(10)])


@pytest.fixture
def clip(home, frames):
    video_writing.write(Path("clip.mp4"), frames, 20_000)
    return Path("clip.mp4")


def shape_of(path: str) -> tuple[int, int, int, int]:
    with video.opened(Path(path)) as found:
        count = sum(1 for _ in found.frames)
        return found.width, found.height, count, found.frames_per_1000s


def only_line(result, text):
    lines = result.stderr.strip().splitlines()
    assert lines[0].startswith("vq: ") and text in lines[0], result.stderr
    assert len(lines) <= 2 and result.stdout == ""


def test_there_and_back(vq, clip):
    encoded = vq("encode", clip)
    assert encoded.exit_code == 0, encoded.stderr
    assert "10 frames, 0.50 s" in encoded.stderr and "kbit/s" in encoded.stderr and "bytes a frame" in encoded.stderr
    clip.unlink()
    decoded = vq("decode", "clip.vqz")
    assert decoded.exit_code == 0, decoded.stderr
    assert "clip.mp4 20 x 16, 10 frames, 20 a second" in decoded.stderr
    assert shape_of("clip.mp4") == (20, 16, 10, 20_000)


def test_suffix_or_format_chooses(vq, clip):
    vq("encode", clip)
    for name in ("a.gif", "a.webm", "a.mkv"):
        assert vq("decode", "clip.vqz", "-o", name).exit_code == 0
        assert shape_of(name) == (20, 16, 10, 20_000)
    assert vq("decode", "clip.vqz", "-o", "frames/").exit_code == 0
    assert len(list(Path("frames").iterdir())) == 10
    assert vq("decode", "clip.vqz", "--format", "frames", "--start", "0.2", "--end", "0:0.3").exit_code == 0
    assert sorted(path.name for path in Path("clip").iterdir()) == ["000001.png", "000002.png"]
    assert "clip.vqz -> clip.decoded 20 x 16" in vq("decode", "clip.vqz", "--format", "frames").stderr
    assert len(list(Path("clip.decoded").iterdir())) == 10 and len(list(Path("clip").iterdir())) == 2
    only_line(vq("decode", "clip.vqz", "--format", "frames"), "clip exists and is not empty")
    only_line(vq("decode", "clip.vqz", "-o", "a.xyz"), "unknown kind of clip")


def test_pipes(vq, clip):
    encoded = vq("encode", "-", *SCALAR, input=clip.read_bytes())
    decoded = vq("decode", "-", input=encoded.stdout_bytes)
    assert decoded.exit_code == 0, decoded.stderr
    Path("again.mp4").write_bytes(decoded.stdout_bytes)
    assert shape_of("again.mp4") == (20, 16, 10, 20_000)


def test_json_and_verify(vq, clip):
    (row,) = json.loads(vq("encode", clip, *SCALAR, "--json", "--verify", "-q", "3").stdout)
    size = Path("clip.vqz").stat().st_size
    assert (row["frames"], row["length_s"], row["quality"], row["size_bytes"]) == (10, 0.5, 3.0, size)
    assert row["kbit_per_s"] == pytest.approx(8 * size / 500) and 0 < row["psnr_db"] < 60
    (row,) = json.loads(vq("decode", "clip.vqz", "-o", "b.mp4", "--json").stdout)
    assert (row["width"], row["height"], row["frames"], row["frames_per_s"]) == (20, 16, 10, 20)


def test_info(vq, clip):
    vq("encode", clip)
    facts = json.loads(vq("info", "clip.vqz", "--json").stdout)
    size = Path("clip.vqz").stat().st_size
    assert (facts["modality"], facts["width"], facts["height"], facts["frames"]) == ("video", 20, 16, 10)
    assert (facts["frames_per_s"], facts["length_s"], facts["grid"]) == (20, 0.5, [10, 4, 5])
    assert facts["kbit_per_s"] == pytest.approx(8 * size / 500, abs=1e-3)
    assert facts["bytes_a_frame"] == pytest.approx(size / 10)


def test_folders_of_frames(vq, home, frames):
    for folder in ("a", "b"):
        video_writing.write(Path(folder), frames, 25_000)
    result = vq("encode", "a", "--frames", "--rate", "12.5")
    assert result.exit_code == 0 and "--rate is now --fps" in result.stderr
    assert vq("decode", "a.vqz").exit_code == 0 and shape_of("a.mp4") == (20, 16, 10, 12_500)
    many = vq("encode", "a", "b", "--frames", "-o", "codes", "--verify", "--json")
    assert many.exit_code == 0, many.stderr
    assert sorted(path.name for path in Path("codes").iterdir()) == ["a.vqz", "b.vqz"]
    assert all(row["source_bytes"] > 0 and row["psnr_db"] > 0 for row in json.loads(many.stdout))
    only_line(vq("encode", "a.mp4", "--frames"), "no folder of frames")
    only_line(vq("encode", "a", "--frames"), "a.vqz exists")
    Path("empty").mkdir()
    only_line(vq("encode", "empty", "--frames"), "no images in empty")


def test_episodes(vq, home, frames):
    np.savez("00001.npz", images=frames, actions=np.array(["left"] * 10))
    assert vq("encode", "00001.npz", *SCALAR, "-o", "clip.vqz").exit_code == 0
    assert json.loads(vq("info", "clip.vqz", "--json").stdout)["frames_per_s"] == 10
    Path("bad.npz").write_bytes(b"PK\3\4 nothing")
    only_line(vq("encode", "bad.npz", *SCALAR), "no .npz file of images")


def test_folders_of_all_kinds(vq, clip, frames):
    Path("in").mkdir()
    clip.rename("in/clip.mp4")
    image.write(Path("in/photo.png"), frames[0])
    assert vq("encode", "in", "-o", "out").exit_code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["clip.vqz", "photo.vqz"]
    assert vq("decode", "out", "-o", "back").exit_code == 0
    assert sorted(path.name for path in Path("back").iterdir()) == ["clip.mp4", "photo.png"]


def test_damage(vq, clip):
    vq("encode", clip)
    data = bytearray(Path("clip.vqz").read_bytes())
    data[-1] ^= 1
    Path("clip.vqz").write_bytes(data)
    only_line(vq("decode", "clip.vqz", "-o", "a.mp4"), "damaged")
    salvaged = vq("decode", "clip.vqz", "-o", "a.mp4", "--salvage")
    assert salvaged.exit_code == 0 and "100.0% of the clip is lost, and grey" in salvaged.stderr
    Path("cut.mp4").write_bytes(clip.read_bytes()[:500])
    only_line(vq("encode", "cut.mp4"), "cut.mp4")
    assert not Path("cut.vqz").exists()


@pytest.mark.parametrize("options", [("--lossless",), ("--bpp", "1"), ("--mono",), ("--fps", "9")], ids=str)
def test_options_that_do_not_fit(vq, clip, options):
    result = vq("encode", clip, *options)
    assert result.exit_code == 2
    only_line(result, "")


def test_without_the_extra(vq, clip, frames, monkeypatch):
    vq("encode", clip)
    image.write(Path("photo.png"), frames[0])
    monkeypatch.setitem(sys.modules, "av", None)
    missing = vq("encode", clip, "--force")
    assert missing.exit_code == 3
    only_line(missing, "needs an extra")
    assert "pip install 'vqcli[video]'" in missing.stderr
    decoded = vq("decode", "clip.vqz")
    assert decoded.exit_code == 0 and "becomes a .gif here" in decoded.stderr and shape_of("clip.gif")[2] == 10
    only_line(vq("decode", "clip.vqz", "-o", "a.mp4"), "needs an extra")
    rest = vq("encode", ".", "-o", "out")
    assert rest.exit_code == 3 and "1 left out" in rest.stderr
    assert not Path("out/clip.mp4.vqz").exists()
