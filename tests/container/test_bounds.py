"""What a file declares is bounded at its header: hostile ones take neither memory nor time."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vqcli.container import bounds, vqz
from vqcli.container.bounds import Limits
from vqcli.container.header import LosslessResidual
from vqcli.errors import BadFile

pytestmark = pytest.mark.fault("14 memory and time")

IMAGE = vqz.Header(
    modality="image",
    size=(16384, 16384, 3),
    grid=(2048, 2048),
    codebook_sizes=(255,) * 48,
    levels=1,
    model="photo",
    digest=b"\1" * 8,
    coder=3,
    joint=True,
    quality=50,
    codes_crcs=(0,),
)
VALID = replace(IMAGE, chunk=(128, 128))
AUDIO = replace(IMAGE, modality="audio", size=(86400 * 16000, 16000, 1), grid=(4320000,), codebook_sizes=(512,) * 6)
TALK = replace(AUDIO, chunk=(500,))
VIDEO = replace(IMAGE, modality="video", size=(7680, 4320, 250, 25000), grid=(250, 540, 960), chunk=(1, 540, 960))
HOSTILE = {
    "one chunk": (IMAGE, "a chunk of 16,384 x 16,384 pixels"),
    "a wide chunk": (replace(IMAGE, chunk=(1, 2048)), "a chunk of 16,384 x 8 pixels"),
    "pixels": (replace(VALID, size=(16385, 16384, 3)), "more than the 268,435,456"),
    "more codes than pixels": (replace(VALID, size=(8, 8, 3)), "does not belong to 8 x 8 pixels"),
    "codes": (replace(VALID, codebook_sizes=(255,) * 96), "bytes of codes are more than the 536,870,912"),
    "wide codes": (replace(VALID, codebook_sizes=(2**18,) * 48), "bytes of codes are more than the 536,870,912"),
    "a day in one chunk": (AUDIO, "a chunk of 86,400 seconds"),
    "two days": (replace(TALK, size=(2 * 86400 * 16000, 16000, 1)), "more than the 24 hours"),
    "a frame": (replace(VIDEO, size=(16384, 16384, 1, 25000), grid=(1, 2048, 2048)), "more than the 33,554,432"),
    "frames in one chunk": (replace(VIDEO, chunk=(2, 540, 960)), None),
    "many frames in one chunk": (replace(VIDEO, chunk=(3, 540, 960)), "chunks of 3 x 540 x 960"),
    "parts of frames": (replace(VIDEO, chunk=(1, 540, 480)), "chunks of 1 x 540 x 480"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_no_file_should_declare(kind: str) -> None:
    header, message = HOSTILE[kind]
    if message is None:
        bounds.check(header)
        return
    with pytest.raises(BadFile, match=message):
        bounds.check(header)


@pytest.mark.parametrize("header", [VALID, TALK, VIDEO, replace(VALID, residual=LosslessResidual(0, 0))])
def test_what_vq_writes_passes(header: vqz.Header) -> None:
    bounds.check(header, [1000] * header.records)


@pytest.mark.parametrize(
    ("header", "limits", "message"),
    [
        (VALID, Limits(pixels=10**6), "more than the 1,000,000 that are decoded"),
        (VIDEO, Limits(pixels=10**6), "more than the 1,000,000 that are decoded"),
        (TALK, Limits(seconds=600), "86,400.0 seconds are more than the 600"),
        (VIDEO, Limits(seconds=9.5), "10.0 seconds are more than the 9.5"),
    ],
)
def test_what_the_caller_allows(header: vqz.Header, limits: Limits, message: str) -> None:
    bounds.check(header)
    with pytest.raises(BadFile, match=message) as caught:
        bounds.check(header, limits=limits)
    assert "--max-" in caught.value.hint
    bounds.check(header, limits=Limits(pixels=2**28, seconds=86400))


def test_large_frames_where_the_caller_allows_them() -> None:
    frame = replace(VIDEO, size=(8192, 8192, 2, 25000), grid=(2, 1024, 1024), chunk=(1, 1024, 1024))
    with pytest.raises(BadFile, match="33,554,432"):
        bounds.check(frame)
    bounds.check(frame, limits=Limits(pixels=2**26))


def test_payloads_longer_than_any_coder_makes_them() -> None:
    small = replace(IMAGE, size=(8, 8, 3), grid=(1, 1), codebook_sizes=(2,))
    with pytest.raises(BadFile, match=r"a payload of 1,000,000,000 bytes"):
        bounds.check(small, [10**9])
    with pytest.raises(BadFile, match="a payload of"):
        vqz.unpack(vqz.pack(small, [bytes(5000)]), limits=Limits())


@pytest.mark.parametrize("command", ["decode", "export"])
def test_seventy_bytes_take_neither_memory_nor_torch(tmp_path: Path, command: str) -> None:
    """Within 300 MB of address space, where torch alone takes more."""
    (tmp_path / "bomb.vqz").write_bytes(vqz.pack(IMAGE, [bytes(8)]))
    run = f'ulimit -v 300000; exec "{sys.executable}" -m vqcli {command} bomb.vqz -o bomb.out'
    done = subprocess.run(["sh", "-c", run], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("vq: bomb.vqz: a chunk of 16,384 x 16,384 pixels")
