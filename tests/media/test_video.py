import io
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.media import frames as video_frames
from vqcli.media import image, video, video_writing

VIDEOS = ("clip.mp4", "clip.mov", "clip.mkv", "clip.webm")


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A grey square on red, a little further right in each frame."""
    made = np.full((count, height, width, 3), (200, 30, 60), np.uint8)
    for number, frame in enumerate(made):
        frame[8:24, 2 * number : 2 * number + 16] = 90
    return list(made)


def read(path: Path | io.BytesIO, **options) -> tuple[list[np.ndarray], video.VideoClip]:
    with video.opened(path, **options) as clip:
        return list(clip.frames), clip


def close(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return np.abs(np.stack(a).astype(int) - np.stack(b)).mean() < 3


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", [*VIDEOS, "clip.gif", "clip.webp"])
def test_there_and_back(tmp_path, name):
    made = frames(12)
    assert video_writing.write(tmp_path / name, iter(made), 25_000) == ()
    found, clip = read(tmp_path / name)
    assert close(found, made) and (clip.width, clip.height, clip.frames_per_1000s, clip.notes) == (64, 48, 25_000, [])
    assert clip.count in (12, None)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_in_natural_order(tmp_path):
    made = frames(11)
    video_writing.write(tmp_path / "frames", made, 25_000)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir())[-1] == "000011.png"
    for path in (tmp_path / "frames").iterdir():
        path.rename(path.with_name(f"shot {int(path.stem)}.png"))
    (tmp_path / "frames" / "notes.txt").write_text("no picture")
    found, clip = read(tmp_path / "frames")
    assert np.array_equal(found, made) and (clip.count, clip.frames_per_1000s) == (11, 25_000)
    assert read(tmp_path / "frames", frames_per_s=23.976)[1].frames_per_1000s == 23_976


def test_odd_sizes_and_rates(tmp_path):
    made = frames(4, 37, 51)
    video_writing.write(tmp_path / "clip.mp4", made, 23_976)
    found, clip = read(tmp_path / "clip.mp4")
    assert close(found, made) and clip.frames_per_1000s == 23_976


def test_gif_keeps_the_rate_on_average(tmp_path):
    equal = [frames(1)[0]] * 30  # which pillow would join
    (note,) = video_writing.write(tmp_path / "clip.gif", equal, 30_000)
    assert "30 frames a second" in note
    found, clip = read(tmp_path / "clip.gif")
    assert (len(found), clip.frames_per_1000s, clip.notes) == (30, 30_000, [])


def test_streams(tmp_path):
    target = io.BytesIO()
    video_writing.write(target, frames(3), 25_000, format="mp4")
    assert close(read(io.BytesIO(target.getvalue()))[0], frames(3))
    with pytest.raises(UsageError, match="folder"):
        video_writing.write(target, frames(3), 25_000, format="frames")


def test_grey_and_transparent_frames_become_colour(tmp_path):
    image.write(tmp_path / "1.png", np.full((4, 6, 1), 77, np.uint8))
    assert read(tmp_path)[0][0].tolist() == [[[77] * 3] * 6] * 4


# ---------------------------------------------------------------- what is, and what is no clip


def test_what_is_a_clip(tmp_path):
    for name in (*VIDEOS, "clip.gif", "clip.webp"):
        video_writing.write(tmp_path / name, frames(2), 25_000)
    image.write(tmp_path / "still.png", frames(1)[0])
    image.write(tmp_path / "still.webp", frames(1)[0])
    video_writing.write(tmp_path / "still.gif", frames(1), 25_000)
    (tmp_path / "empty").write_bytes(b"")
    for path in tmp_path.iterdir():
        with path.open("rb") as stream:
            assert video.is_clip(stream) == path.name.startswith("clip"), path
            assert stream.tell() == 0


@pytest.mark.parametrize("brand", [b"avif", b"heic", b"M4A "])
def test_boxes_of_images_and_audio(brand):
    assert video.kind_of(b"\0\0\0\x1cftyp" + brand) is None


def test_a_playlist_opens_nothing(tmp_path):
    video_writing.write(tmp_path / "clip.mp4", frames(2), 25_000)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadFile, match="no clip"):
        read(tmp_path / "list.mp4")


# ---------------------------------------------------------------- what is changed, and said


@pytest.mark.fault("01 alpha of video")
@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [("clip.mov", "qtrle", "argb"), ("clip.webm", "libvpx-vp9", "yuva420p"), ("clip.mkv", "ffv1", "bgra")],
)
def test_alpha_lies_over_the_background(tmp_path, name, codec, format):
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, :32] = 200, 40, 40, 255
    pixels[:, 32:, 1] = 90  # transparent throughout
    with av.open(tmp_path / name, "w") as container:
        shown = container.add_stream(codec, rate=25)
        shown.width, shown.height, shown.pix_fmt = 64, 48, format
        if name.endswith("webm"):
            shown.metadata["alpha_mode"] = "1"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(shown.encode(frame))
        container.mux(shown.encode())
    with video.opened(tmp_path / name, background="#0000ff") as clip:
        found = list(clip.frames)
    assert len(found) == 3 and "alpha composited over the background" in clip.notes
    assert np.abs(found[0][4:-4, 4:28].astype(int) - [200, 40, 40]).max() < 8
    assert np.abs(found[0][4:-4, 36:-4].astype(int) - [0, 0, 255]).max() < 8


def test_audio_is_left_out(tmp_path):
    with av.open(tmp_path / "clip.mp4", "w") as container:
        shown = container.add_stream("libx264", rate=25)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        heard = container.add_stream("aac", rate=16_000)
        for number, pixels in enumerate(frames(3)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(shown.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16_000
        container.mux(heard.encode(sound))
        container.mux(shown.encode(None))
        container.mux(heard.encode(None))
    found, clip = read(tmp_path / "clip.mp4")
    assert len(found) == 3 and clip.notes == ["audio left out"]


def test_uneven_frames_get_their_average_rate(tmp_path):
    with av.open(tmp_path / "clip.mkv", "w") as container:
        shown = container.add_stream("libx264", rate=10)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        for at, pixels in zip((0, 1, 2, 3, 8), frames(5), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(shown.encode(frame))
        container.mux(shown.encode(None))
    found, clip = read(tmp_path / "clip.mkv")
    assert len(found) == 5 and clip.frames_per_1000s == 5000
    assert clip.notes == ["uneven frames, now at their average of 5 a second"]


def test_phones_are_held_upright(tmp_path):
    """The display matrix of the track (ISO 14496-12, 8.3.2) turns by a quarter to the right."""
    path = tmp_path / "clip.mp4"
    video_writing.write(path, frames(2), 25_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    found, clip = read(path)
    assert (clip.width, clip.height) == (48, 64)
    assert close(found, [np.rot90(frame, -1) for frame in frames(2)])


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", [*VIDEOS, "clip.webp"])
def test_truncated_anywhere_is_one_line(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    video_writing.write(tmp_path / name, noise, 25_000)
    data = (tmp_path / name).read_bytes()
    for share in (0.02, 0.3, 0.6, 0.8):
        with pytest.raises(BadFile) as caught:
            read(io.BytesIO(data[: int(share * len(data))]))
        assert "\n" not in str(caught.value)


def test_a_truncated_gif_is_read_as_far_as_it_goes(tmp_path):
    video_writing.write(tmp_path / "clip.gif", frames(12), 25_000)
    data = (tmp_path / "clip.gif").read_bytes()
    for share in (0.02, 0.5, 0.9):
        try:
            found, clip = read(io.BytesIO(data[: int(share * len(data))]))
            assert len(found) < 12 and "cut short" in clip.notes[0]
        except BadFile as error:
            assert "\n" not in str(error)


def test_a_truncated_mp4_says_how_far_it_goes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    with av.open(tmp_path / "clip.mp4", "w", options={"movflags": "faststart"}) as container:
        shown = container.add_stream("mpeg4", rate=25)
        shown.width, shown.height, shown.pix_fmt = 32, 32, "yuv420p"
        for pixels in noise:
            container.mux(shown.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(shown.encode(None))
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadFile, match=r"cut\.mp4 ends after \d+ of 20 frames"):
        read(tmp_path / "cut.mp4")


@pytest.mark.parametrize("name", [*VIDEOS, "clip.gif", "clip.webp"])
def test_damage_never_ends_in_another_error(tmp_path, name):
    video_writing.write(tmp_path / name, frames(6), 25_000)
    data = (tmp_path / name).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(data)
        for at in draw.integers(0, len(data), 8):
            damaged[at] = draw.integers(256)
        try:
            read(io.BytesIO(damaged))
        except BadFile as error:
            assert "\n" not in str(error)


def test_frames_of_several_sizes(tmp_path):
    image.write(tmp_path / "1.png", frames(1)[0])
    image.write(tmp_path / "2.png", frames(1, 40)[0])
    with pytest.raises(BadFile, match=r"frame 2 is 64 x 40 pixels, the first 64 x 48"):
        read(tmp_path)


def test_nothing_to_read(tmp_path):
    for path in (tmp_path, tmp_path / "missing.mp4"):
        with pytest.raises(BadFile):
            read(path)
    (tmp_path / "words.mp4").write_text("some words")
    with pytest.raises(BadFile, match="no clip"):
        read(tmp_path / "words.mp4")


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(video_frames, "MAX_PIXELS", 64 * 48 - 1)
    for name in ("clip.mp4", "clip.gif", "clip.webp"):
        video_writing.write(tmp_path / name, frames(2), 25_000)
        with pytest.raises(BadFile, match="too large"):
            read(tmp_path / name)


def test_too_many_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(video_frames, "MAX_FRAMES", 3)
    video_writing.write(tmp_path / "clip.mp4", frames(4), 25_000)
    with pytest.raises(BadFile, match="more than 3 frames"):
        read(tmp_path / "clip.mp4")


@pytest.mark.parametrize("rate", [0, -1, 2000, float("nan")])
def test_rates_that_cannot_be(tmp_path, rate):
    image.write(tmp_path / "1.png", frames(1)[0])
    with pytest.raises(UsageError):
        read(tmp_path, frames_per_s=rate)


def test_files_have_their_own_rate(tmp_path):
    video_writing.write(tmp_path / "clip.gif", frames(2), 25_000)
    with pytest.raises(UsageError, match="own frame rate"):
        read(tmp_path / "clip.gif", frames_per_s=10)


# ---------------------------------------------------------------- writing


def test_nothing_is_replaced_unasked(tmp_path):
    target = tmp_path / "clip.gif"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError):
        video_writing.write(target, frames(2), 25_000)
    assert target.read_bytes() == b"mine"
    video_writing.write(target, frames(2), 25_000, force=True)
    assert len(read(target)[0]) == 2


def test_of_a_folder_only_frames_are_replaced(tmp_path):
    target = tmp_path / "frames"
    target.mkdir()
    video_writing.write(target, frames(5), 25_000)  # into an empty one
    (target / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        video_writing.write(target, frames(2), 25_000)
    video_writing.write(target, frames(2), 25_000, force=True)
    assert sorted(path.name for path in target.iterdir()) == ["000001.png", "000002.png", "diary.txt"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="no folder"):
        video_writing.write(tmp_path / "file", frames(2), 25_000)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "frames"])
def test_an_error_halfway_leaves_nothing(tmp_path, name):
    def broken():
        yield from frames(2)
        raise BadFile("the codes fail their checksum")

    with pytest.raises(BadFile, match="checksum"):
        video_writing.write(tmp_path / name, broken(), 25_000)
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_and_no_frames(tmp_path):
    with pytest.raises(UsageError, match="unknown kind of clip"):
        video_writing.write(tmp_path / "clip.xyz", frames(1), 25_000)
    with pytest.raises(BadFile, match="a frame at least"):
        video_writing.write(tmp_path / "clip.gif", [], 25_000)
    with pytest.raises(OutputError, match=r"GIF cannot hold"):
        video_writing.write(tmp_path / "clip.gif", [np.zeros((1, 65_536, 3), np.uint8)], 25_000)


def test_frames_are_taken_one_by_one(tmp_path):
    """After each frame that is asked for, the ones before it are written or on their way."""
    import weakref

    alive: set[int] = set()

    def counted():
        for number in range(40):
            frame = frames(1)[0]
            alive.add(number)
            weakref.finalize(frame, alive.discard, number)
            assert len(alive) < 5
            yield frame

    for name in ("clip.mp4", "clip.gif", "frames"):
        video_writing.write(tmp_path / name, counted(), 25_000)


# ---------------------------------------------------------------- without the extra


def test_without_the_extra(tmp_path, monkeypatch):
    video_writing.write(tmp_path / "clip.mp4", frames(2), 25_000)
    monkeypatch.setitem(sys.modules, "av", None)
    assert not video.available()
    for call in (
        lambda: read(tmp_path / "clip.mp4"),
        lambda: video_writing.write(tmp_path / "other.mp4", frames(2), 25_000),
    ):
        with pytest.raises((BadFile, OutputError), match="extra") as caught:
            call()
        assert "pip install 'vqcli[video]'" in caught.value.hint
    video_writing.write(tmp_path / "clip.gif", frames(2), 25_000)
    assert len(read(tmp_path / "clip.gif")[0]) == 2
