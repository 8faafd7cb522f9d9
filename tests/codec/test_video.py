import io
import tracemalloc
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import vqcli
from vqcli import api
from vqcli.api import DecodedVideo, EncodedVideo
from vqcli.codec import image_file, tiling
from vqcli.codec import video as codec_video
from vqcli.codec.image import GREY
from vqcli.container import vqz
from vqcli.errors import BadFile, DamagedChunks, ModelError, UsageError
from vqcli.media import image, video, video_writing
from vqcli.media.frames import from_frames
from vqcli.zoo import store


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 3 frames of 20 x 16 pixels, which are 5 x 4 codes."""
    monkeypatch.setattr(image_file, "CHUNK", 32)


@pytest.fixture
def frames(picture):
    """Ten frames, uint8 [10, 16, 20, 3]: a window that moves over a picture."""
    whole = picture(16, 30)
    return np.stack([whole[:, at : at + 20] for at in range(10)])


def coded(model, frames) -> list[np.ndarray]:
    """What frames look like when each is coded on its own."""
    return [tiling.decode_image(model, tiling.encode_image(model, frame)) for frame in frames]


# ---------------------------------------------------------------- there and back


def test_a_clip_is_its_frames_coded_one_by_one(scalar_model, vector_model, frames):
    for model in (scalar_model, vector_model):
        encoded = api.encode(frames, model, metadata={"title": "noise"})
        assert isinstance(encoded, EncodedVideo)
        assert encoded.header.size == (20, 16, 10, 10_000) and encoded.header.chunk_count == 4
        assert encoded.header.metadata == {"title": "noise"} and encoded.header.model == model.info.name
        decoded = api.decode(encoded, model)
        assert isinstance(decoded, DecodedVideo)
        assert (decoded.width, decoded.height, decoded.n_frames, decoded.frames_per_1000s) == (20, 16, 10, 10_000)
        assert decoded.length_s == 1.0 and not decoded.lost.any()
        for _ in range(2):  # again as often as one likes
            assert np.array_equal(list(decoded.frames()), coded(model, frames))


def test_rates_are_those_of_the_file(scalar_model, frames):
    encoded = api.encode(frames, scalar_model)
    size = len(encoded.data)
    assert encoded.n_frames == 10 and encoded.length_s == 1.0
    assert encoded.kbit_per_s == pytest.approx(8 * size / 1000)
    assert encoded.bits_per_pixel == pytest.approx(8 * size / (20 * 16 * 10))


def test_files_folders_episodes_and_streams(scalar_model, frames, tmp_path):
    """Whatever holds the same frames has the same codes."""
    wanted = codec_video.codes_of(frames, scalar_model).codes
    video_writing.write(tmp_path / "frames", frames, 25_000)
    np.savez(tmp_path / "00001.npz", images=frames, actions=np.array(["left"] * 10))
    for source, frames_per_1000s in ((tmp_path / "frames", 25_000), (tmp_path / "00001.npz", 10_000)):
        encoded = api.encode(source, scalar_model)
        assert encoded.header.size[3] == frames_per_1000s
        encoded.save(tmp_path / "clip.vqz", force=True)
        assert np.array_equal(codec_video.codes_of(tmp_path / "clip.vqz", scalar_model).codes, wanted)
        assert api.encode(source, scalar_model, frames_per_s=12.5).header.size[3] == 12_500
    video_writing.write(tmp_path / "clip.gif", frames, 25_000)
    encoded = api.encode(io.BytesIO((tmp_path / "clip.gif").read_bytes()), scalar_model)
    assert encoded.header.size == (20, 16, 10, 25_000)
    video_writing.write(tmp_path / "clip.mp4", frames, 30_000)
    assert api.encode(str(tmp_path / "clip.mp4"), scalar_model).header.size == (20, 16, 10, 30_000)


def test_uneven_frames_have_their_average_in_the_header(scalar_model, frames, tmp_path):
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames[:4]]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:], duration=[100, 100, 100, 500])
    encoded = api.encode(tmp_path / "clip.gif", scalar_model)
    assert encoded.header.size == (20, 16, 4, 5000) and "uneven" in encoded.notes[0]


def test_the_default_model(scalar_model, frames, monkeypatch):
    monkeypatch.setenv("VQ_MODELS", str(scalar_model.info.folder.parent))
    monkeypatch.setitem(store.DEFAULTS, "video", "scalar")
    assert vqcli.encode(frames, device="cpu").header.model == "scalar"


def test_quality_and_levels(scalar_model, vector_model, frames):
    assert api.encode(frames, scalar_model, quality=2.5).header.quality == 25
    fewer = api.encode(frames, vector_model, levels=1)
    assert fewer.header.levels == 1
    first = list(api.decode(api.encode(frames, vector_model), vector_model, levels=1).frames())
    assert np.array_equal(list(api.decode(fewer, vector_model).frames()), first)


def test_saved_as_it_is_made(scalar_model, frames, tmp_path):
    decoded = api.decode(api.encode(frames, scalar_model), scalar_model)
    assert decoded.save(tmp_path / "frames") == ()
    with video.opened(tmp_path / "frames") as clip:
        assert np.array_equal(list(clip.frames), list(decoded.frames()))
    decoded.save(str(tmp_path / "clip.mp4"))
    with video.opened(tmp_path / "clip.mp4") as clip:
        assert clip.frames_per_1000s == 10_000 and len(list(clip.frames)) == 10


# ---------------------------------------------------------------- codes themselves


def test_codes_of_some_frames(scalar_model, frames, tmp_path):
    api.encode(frames, scalar_model).save(tmp_path / "clip.vqz")
    np.savez(tmp_path / "clip.npz", images=frames)
    whole = codec_video.codes_of(frames, scalar_model)
    assert whole.codes.shape == (3, 10, 4, 5) and whole.codes.dtype == np.uint16
    assert (whole.size, whole.frames_per_1000s, whole.quality) == ((20, 16), 10_000, 20)
    for source in (frames, tmp_path / "clip.npz", str(tmp_path / "clip.vqz")):
        first = codec_video.codes_of(source, scalar_model, most_frames=4)
        last = codec_video.codes_of(source, scalar_model, most_frames=4, last=True)
        assert np.array_equal(first.codes, whole.codes[:, :4]) and np.array_equal(last.codes, whole.codes[:, 6:])
        assert len(codec_video.codes_of(source, scalar_model, most_frames=99, last=True)) == 10


def test_frames_of_codes(scalar_model, frames):
    codes = codec_video.codes_of(frames, scalar_model, most_frames=3)
    assert np.array_equal(list(codec_video.frames_of(scalar_model, codes)), coded(scalar_model, frames[:3]))


def test_codes_of_another_model(scalar_model, vector_model, frames, tmp_path):
    api.encode(frames, scalar_model).save(tmp_path / "clip.vqz")
    with pytest.raises(ModelError):
        codec_video.codes_of(tmp_path / "clip.vqz", vector_model)


# ---------------------------------------------------------------- parts, damage


def test_a_part_in_seconds(scalar_model, frames):
    encoded = api.encode(frames, scalar_model)
    part = api.decode(encoded, scalar_model, start_s=0.2, end_s=0.7)
    assert np.array_equal(list(part.frames()), coded(scalar_model, frames[2:7])) and part.n_frames == 5
    assert api.decode(encoded, scalar_model, start_s=0.9, end_s=9).n_frames == 1
    for start_s, end_s in ((1.0, None), (0.5, 0.5), (0.7, 0.2)):
        with pytest.raises(UsageError, match="no such part"):
            api.decode(encoded, scalar_model, start_s=start_s, end_s=end_s)


def test_damage(scalar_model, frames):
    encoded = api.encode(frames, scalar_model)
    data = bytearray(encoded.data)
    data[-1] ^= 1  # of the last chunk, which is one frame
    with pytest.raises(DamagedChunks):
        api.decode(bytes(data), scalar_model)
    salvaged = api.decode(bytes(data), scalar_model, salvage=True)
    assert salvaged.lost.tolist() == [False] * 9 + [True]
    *whole, last = salvaged.frames()
    assert np.array_equal(whole, coded(scalar_model, frames[:9])) and (last == GREY).all()
    assert api.decode(bytes(data), scalar_model, end_s=0.9).n_frames == 9  # elsewhere
    with pytest.raises(DamagedChunks):
        api.decode(bytes(data), scalar_model, start_s=0.9)


@pytest.mark.fault("19 salvage")
def test_salvage_shows_the_levels_that_are_whole(vector_model, frames):
    encoded = api.encode(frames, vector_model, coder="packed")
    data = bytearray(encoded.data)
    data[-1] ^= 1  # of the third level
    salvaged = api.decode(bytes(data), vector_model, salvage=True)
    assert not salvaged.lost.any() and salvaged.fewer[-1]
    second, whole = (list(api.decode(encoded, vector_model, levels=levels).frames()) for levels in (2, 3))
    for frame, fewer, expected, below in zip(salvaged.frames(), salvaged.fewer, whole, second, strict=True):
        assert np.array_equal(frame, below if fewer else expected)


def test_a_wrong_checksum_is_told_after_the_last_frame(scalar_model, frames, tmp_path):
    file = vqz.unpack(api.encode(frames, scalar_model).data)
    wrong = replace(file, header=replace(file.header, codes_crcs=(1,)))
    decoded = api.decode(wrong, scalar_model)
    with pytest.raises(BadFile, match="checksum"):
        decoded.save(tmp_path / "clip.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_lying_header_is_found_before_a_frame_is_asked_for(scalar_model, frames):
    file = vqz.unpack(api.encode(frames, scalar_model).data)
    with pytest.raises(BadFile):
        api.decode(replace(file, header=replace(file.header, size=(21, 16, 10, 1))), scalar_model)


# ---------------------------------------------------------------- options that do not fit


@pytest.mark.parametrize(
    "options",
    [{"lossless": True}, {"bits_per_pixel": 1.0}, {"mono": True}, {"rate_hz": 16_000}, {"quality": 77}, {"levels": 9}],
    ids=str,
)
def test_options_that_clips_have_not(scalar_model, frames, options):
    with pytest.raises(UsageError):
        api.encode(frames, scalar_model, **options)


def test_pictures_have_no_frames_and_no_parts(scalar_model, frames):
    with pytest.raises(UsageError, match=r"^frames_per_s is for clips, and this is an image"):
        api.encode(frames[0], scalar_model, frames_per_s=25)
    with pytest.raises(UsageError, match=r"^start_s is for audio or clips"):
        api.decode(api.encode(frames[0], scalar_model), scalar_model, start_s=1)


def test_models_of_one_size(scalar_model, frames, monkeypatch):
    monkeypatch.setattr(scalar_model.net, "frame_size", (84, 84), raising=False)
    for pixels in (frames, frames[0]):
        with pytest.raises(UsageError) as caught:
            api.encode(pixels, scalar_model)
        assert str(caught.value) == "model scalar is for images of 84 x 84 pixels, and this is 20 x 16"
        assert caught.value.hint == "resize it first"


def test_arrays_that_are_no_clips(scalar_model, frames):
    for wrong in (frames.astype(float), frames[..., :2], frames[:0]):
        with pytest.raises(UsageError):
            api.encode(wrong, scalar_model)


def test_what_is_a_clip(tmp_path, frames):
    (tmp_path / "frames").mkdir()
    np.savez(tmp_path / "clip.npz", images=frames)
    for name in ("clip.mp4", "clip.gif", "clip.webm"):
        video_writing.write(tmp_path / name, frames[:2], 25_000)
    (tmp_path / "clip.bin").write_bytes((tmp_path / "clip.mp4").read_bytes())  # by content
    image.write(tmp_path / "still.png", frames[0])
    for path in tmp_path.iterdir():
        assert api.modality_of(path) == ("image" if path.name == "still.png" else "video"), path


# ---------------------------------------------------------------- memory


def test_long_clips_take_no_more_memory(scalar_model, frames, monkeypatch):
    alive: set[int] = set()
    most = 0

    def counted():
        nonlocal most
        for number in range(100):
            frame = frames[number % 10].copy()
            alive.add(number)
            weakref.finalize(frame, alive.discard, number)
            most = max(most, len(alive))
            yield frame

    @contextmanager
    def opened(source, **options):
        yield from_frames(counted(), 25, "clip", 100)

    monkeypatch.setattr(codec_video, "opened", opened)
    encoded = codec_video.encode(frames, scalar_model, coder="packed")
    assert encoded.n_frames == 100 and most <= 4
    decoded = api.decode(encoded, scalar_model)
    next(iter(decoded.frames()))  # what is made once
    tracemalloc.start()
    try:
        assert sum(1 for _ in decoded.frames()) == 100
        assert tracemalloc.get_traced_memory()[1] < 50 * frames[0].nbytes
    finally:
        tracemalloc.stop()
