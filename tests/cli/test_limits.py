"""What strangers send: no more of it is encoded, or read of a pipe, than is allowed."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import vqcli
from vqcli.container import vqz
from vqcli.container.bounds import Limits
from vqcli.errors import BadFile
from vqcli.files import streams
from vqcli.media import audio, video

pytestmark = pytest.mark.fault("14 memory and time")
SCALAR = ("--model", "scalar", "--device", "cpu")


def test_images_of_more_pixels_are_not_encoded(vq, photo):
    refused = vq("encode", photo, *SCALAR, "--max-pixels", "1899")
    assert refused.exit_code == 3 and not Path("photo.vqz").exists()
    assert "photo.png is too large: 50 x 38 pixels; 1899 are allowed" in refused.stderr
    assert "--max-pixels allows more" in refused.stderr
    assert vq("encode", photo, *SCALAR, "--max-pixels", "1900").exit_code == 0
    assert "1,899 that are decoded" in vq("encode", "photo.vqz", "--levels", "1", "--max-pixels", "1899").stderr


def a_gif(path: Path, frame_ms: int = 500) -> Path:
    frames = [Image.fromarray(np.full((16, 24), 40 * number, np.uint8)) for number in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=frame_ms)
    return path


def test_clips_of_more_seconds_or_larger_frames_are_not_encoded(vq):
    clip = a_gif(Path("clip.gif"))
    refused = vq("encode", clip, *SCALAR, "--max-seconds", "1.9")
    assert refused.exit_code == 3 and "clip.gif is longer than the 1.9 s that are allowed" in refused.stderr
    refused = vq("encode", clip, *SCALAR, "--max-pixels", "383")
    assert "frames of 24 x 16 pixels; 383 are allowed" in refused.stderr and not Path("clip.vqz").exists()
    assert vq("encode", clip, *SCALAR, "--max-seconds", "2", "--max-pixels", "384").exit_code == 0


def test_folders_and_videos_are_held_to_the_same(tmp_path):
    pytest.importorskip("av")
    from vqcli.media import video_writing

    frames = np.zeros((20, 16, 24, 3), np.uint8)
    video_writing.write(tmp_path / "clip.mp4", frames, 10_000)
    video_writing.write(tmp_path / "frames", frames, 10_000, format="frames")
    for name, rate in (("clip.mp4", {}), ("frames", {"frames_per_s": 10.0})):
        for limits in (Limits(seconds=1.9), Limits(pixels=383)):
            with (
                pytest.raises(BadFile, match="are allowed"),
                video.opened(tmp_path / name, **rate, limits=limits) as it,
            ):
                list(it.frames)
        with video.opened(tmp_path / name, **rate, limits=Limits(384, 2.0)) as clip:
            assert len(list(clip.frames)) == 20


def test_recordings_of_more_seconds_are_not_encoded(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 8000)
    with pytest.raises(BadFile, match=r"a.wav is longer than the 1.9 s that are allowed"):
        audio.read(tmp_path / "a.wav", 16_000, mono=True, limits=Limits(seconds=1.9))
    assert audio.read(tmp_path / "a.wav", 16_000, mono=True, limits=Limits(seconds=2)).length_s == 2
    with pytest.raises(BadFile, match=r"the array is longer than the 1 s"):
        vqcli.encode(np.zeros(16_001, np.float32), "speech", rate_hz=16_000, max_seconds=1)


class Endless(io.RawIOBase):
    """A pipe that never ends, and counts what was taken."""

    def __init__(self, head: bytes) -> None:
        self.head, self.taken = head, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer) -> int:
        data = (self.head[self.taken :] + bytes(len(buffer)))[: len(buffer)]
        buffer[:] = data
        self.taken += len(data)
        return len(data)


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", vqz.MAGIC + bytes([1]), b"RIFF\0\0\0\0WAVEfmt "])
def test_a_pipe_without_end_is_refused(monkeypatch, scalar_model, head):
    monkeypatch.setattr(streams, "LONGEST", 2**22)
    pipe = Endless(head)
    with pytest.raises(BadFile, match="longer than 4,194,304 bytes, as many as are read of a stream"):
        vqz.read(pipe) if head.startswith(vqz.MAGIC) else vqcli.encode(pipe, scalar_model)
    assert pipe.taken <= 2**22 + 2**21


@pytest.mark.parametrize("read", [vqz.read, lambda pipe: vqcli.encode(pipe, "photo-2")])
def test_a_pipe_of_nothing_known_is_not_read_to_its_end(scalar_model, read):
    pipe = Endless(b"hello")
    with pytest.raises(BadFile, match="not a"):
        read(pipe)
    assert pipe.taken <= 1024


def test_long_streams_lie_in_a_temporary_file(vq, photo, monkeypatch):
    """Behind a real pipe, through both commands."""
    monkeypatch.setattr(streams, "IN_MEMORY", 16)
    with photo.open("rb") as data, subprocess.Popen(["cat"], stdin=data, stdout=subprocess.PIPE) as pipe:
        encoded = vqcli.encode(pipe.stdout, "scalar")
    with subprocess.Popen([sys.executable, "-c", f"import sys; sys.stdout.buffer.write({encoded.data!r})"],
                          stdout=subprocess.PIPE) as pipe:  # fmt: skip
        assert vqz.read(pipe.stdout).header.size == (50, 38, 3)
