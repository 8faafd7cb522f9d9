"""vq encode of a .vqz file: fewer levels, their bytes untouched."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import vqcli
from vqcli.container import vqz
from vqcli.media import image

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def coded(vq, home, picture):
    """An image and a clip of three levels by the model `vector`."""
    image.write(home / "photo.png", picture(38, 50))
    (home / "frames").mkdir()
    for number in (1, 2, 3):
        image.write(home / "frames" / f"{number}.png", picture(20, 24) // number)
    assert vq("encode", "photo.png", "--model", "vector").exit_code == 0
    assert vq("encode", "frames", "--frames", "--model", "vector", "-o", "clip.vqz").exit_code == 0


@pytest.mark.parametrize("name", ["photo", "clip"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_decodes_as_the_first_levels_of_the_whole(vq, coded, name, levels):
    run = vq("encode", f"{name}.vqz", "--levels", levels, "-o", "less.vqz")
    assert run.exit_code == 0 and f"{levels} of 3 levels" in run.stderr
    less, whole = vqz.read(Path("less.vqz")), vqz.read(Path(f"{name}.vqz"))
    assert less.payloads == whole.payloads[: len(less.payloads)] and less.header.levels == levels
    frames = list(vqcli.decode("less.vqz").frames()), list(vqcli.decode(f"{name}.vqz", levels=levels).frames())
    assert all(np.array_equal(a, b) for a, b in zip(*frames, strict=True))


@pytest.mark.parametrize("name", ["photo", "speech", "video", "lossless", "uneven"])
def test_files_of_every_version_without_their_models(vq, home, monkeypatch, name):
    """The golden files, also in their place and through pipes; a lossless residual goes with any level."""
    monkeypatch.setenv("VQ_MODELS", "/nonexistent")
    shutil.copy(GOLDEN / f"{name}.vqz", "a.vqz")
    whole = vqz.read(Path("a.vqz"))
    for levels in range(whole.header.levels, 0, -1):
        assert vq("encode", "a.vqz", "--levels", levels, "--force").exit_code == 0
        less = vqz.read(Path("a.vqz"))
        assert less == vqz.drop_levels(whole, levels) and not less.header.residual


def test_folders(vq, coded):
    Path("coded").mkdir()
    for name in ("photo.vqz", "clip.vqz"):
        shutil.move(name, "coded")
    run = vq("encode", "coded", "--levels", 1, "-o", "less")
    assert run.exit_code == 0, run.stderr
    for name in ("photo.vqz", "clip.vqz"):
        assert vqz.read(Path("less") / name) == vqz.drop_levels(vqz.read(Path("coded") / name), 1)
    assert vq("encode", "coded", "-o", "other").exit_code == 2  # without an option that drops levels


def test_pipes(vq, coded):
    data = Path("photo.vqz").read_bytes()
    run = vq("encode", "-", "--levels", 1, input=data)
    assert run.exit_code == 0, run.stderr
    assert vqz.unpack(run.stdout_bytes) == vqz.drop_levels(vqz.unpack(data), 1)


def test_a_size(vq, coded):
    sizes = [vqz.drop_levels(vqz.read(Path("photo.vqz")), levels).size_bytes for levels in (1, 2, 3)]
    for most, levels in ((sizes[2], 3), (sizes[2] - 1, 2), (sizes[1] - 1, 1), (sizes[0], 1), (5, 1)):
        run = vq("encode", "photo.vqz", "--bytes", most, "-o", "less.vqz", "--force", "--json")
        assert run.exit_code == 0 and vqz.read_header(Path("less.vqz"))[0].levels == levels
        assert ("one level takes more" in run.stdout) == (most < sizes[0])


def test_a_rate(vq, home):
    source = GOLDEN / "speech.vqz"
    whole = vqz.read(source)
    length_s = whole.header.size[0] / whole.header.size[1]
    assert whole.header.levels > 1
    rate = 8 * vqz.drop_levels(whole, 1).size_bytes / length_s / 1000
    assert vq("encode", source, "--kbps", rate + 0.01, "-o", "less.vqz").exit_code == 0
    assert vqz.read_header(Path("less.vqz"))[0].levels == 1
    assert vqcli.drop_levels(source, kbit_per_s=1000).header == whole.header


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--levels", 4], "--levels 4: the file has 3"),
        (["--levels", 1, "--bytes", 100], "give one of --levels"),
        (["--kbps", 1], "--kbps is for audio"),
        (["--levels", 1, "--quality", 2], "--quality is for what is not coded yet"),
        (["--levels", 1, "--coder", "packed"], "--coder is for what is not coded yet"),
        (["--levels", 1, "--model", "vector"], "--model is for what is not coded yet"),
        (["--levels", 1, "--verify"], "--verify decodes"),
    ],
)
def test_what_it_refuses(vq, coded, options, words):
    run = vq("encode", "photo.vqz", "-o", "less.vqz", *options)
    assert run.exit_code == 2 and words in run.stderr and not Path("less.vqz").exists()
    assert len(run.stderr.strip().splitlines()) <= 2


def test_nothing_is_replaced_unasked(vq, coded):
    before = Path("photo.vqz").read_bytes()
    run = vq("encode", "photo.vqz", "--levels", 1)
    assert run.exit_code == 2 and "exists" in run.stderr and Path("photo.vqz").read_bytes() == before
    assert "--levels drops levels" in vq("encode", "photo.vqz", "-o", "less.vqz").stderr
    Path("photo.vqz").write_bytes(before[:-3])
    assert vq("encode", "photo.vqz", "--levels", 1, "-o", "less.vqz").exit_code == 3
