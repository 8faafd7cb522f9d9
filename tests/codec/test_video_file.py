import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from vqcli.codec import chunks, image_file, video_file
from vqcli.codec.codes import VideoCodes
from vqcli.container import vqz
from vqcli.errors import BadFile, DamagedChunks, ModelError, UsageError
from vqcli.nets.priors import rounding
from vqcli.zoo import priors, registry

CODERS = ["packed", "histogram", "adaptive"]


@pytest.fixture(scope="module")
def prior_model(make_model, scalar_model, tmp_path_factory):
    """The scalar model again, with a tiny prior for entropy coding beside it."""
    model = make_model("with-prior", tmp_path_factory.mktemp("prior"), **scalar_model.info.description["arguments"])
    arguments = {"codebook_sizes": model.net.quantizer.codebook_sizes, "qualities": 3, "hidden": 8, "levels": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("exact", arguments)
    tensors = {name: torch.from_numpy(array) for name, array in rounding.rounded(net).arrays().items()}
    description = {"family": "exact", "arguments": arguments, "codec": model.info.digest.hex()}
    priors.save(model.info.folder, tensors, description)
    return model


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of at most 5 x 5 positions at stride 4: 4 frames of 2 x 3 codes."""
    monkeypatch.setattr(image_file, "CHUNK", 20)


def video(model, frames: int = 11, rows: int = 2, columns: int = 3, quality: int | None = None) -> VideoCodes:
    """Codes that are likely under the counts of the tiny models."""
    sizes = np.array(model.net.codebook_sizes)
    spread = np.random.default_rng(frames).normal(0.5, 0.15, (len(sizes), frames, rows, columns)).clip(0, 0.999)
    codes = (spread * sizes[:, None, None, None]).astype(np.uint16)
    return VideoCodes(codes, (4 * columns, 4 * rows), 12_500, 10 * bool(model.net.quantizer.qualities))


def file_of(model, codes: VideoCodes, coder: str = "auto") -> vqz.Vqz:
    return vqz.unpack(vqz.pack(*video_file.pack_video(model, codes, coder=coder)))


@pytest.mark.parametrize("coder", ["auto", *CODERS, "prior"])
def test_codes_come_back(scalar_model, vector_model, prior_model, coder):
    for model in (prior_model,) if coder == "prior" else (scalar_model, vector_model, prior_model):
        codes = video(model)
        file = file_of(model, codes, coder)
        header = file.header
        assert (header.modality, header.size) == ("video", (12, 8, 11, 12_500))
        assert (header.grid, header.chunk, header.chunk_count) == ((11, 2, 3), (4, 2, 3), 3)
        assert header.joint == (coder == "prior" or (coder == "auto" and header.coder == 3))
        again, lost = video_file.unpack_video(model, file)
        assert np.array_equal(again.codes, codes.codes) and not lost.any() and lost.shape == (11,)
        assert replace(again, codes=codes.codes) == codes
        assert (len(again), again.length_s) == (11, 0.88)


def test_the_checksums_are_those_of_the_specification(vector_model):
    codes = video(vector_model)
    crcs = tuple(vqz.codes_crc(part) for part in np.split(codes.codes, 3))
    assert file_of(vector_model, codes).header.codes_crcs == crcs


def test_a_stream_is_coded_as_a_whole_is(vector_model):
    """Chunks of a stream are the chunks of the array, and what a picture's coders make of them."""
    codes = video(vector_model)
    file = file_of(vector_model, codes, "adaptive")
    header, payloads = chunks.pack(vector_model, file.header, codes.codes, coder="adaptive")
    assert (header, payloads) == (file.header, file.payloads)
    assert np.array_equal(chunks.unpack(vector_model, file)[0], codes.codes)


def test_auto_is_the_smallest(prior_model):
    codes = video(prior_model)
    sizes = {coder: file_of(prior_model, codes, coder).size_bytes for coder in ("auto", *CODERS, "prior")}
    assert sizes["auto"] == min(sizes.values())


def test_a_coder_that_does_not_return_the_codes_is_not_taken(scalar_model, monkeypatch):
    encode = chunks.coders.encode

    def wrong(coder, codes, *rest):
        return encode(coder, codes if coder == "packed" else codes * 0, *rest)

    monkeypatch.setattr(chunks.coders, "encode", wrong)
    assert file_of(scalar_model, video(scalar_model)).header.coder == 0


def test_one_frame_and_one_chunk(scalar_model):
    for frames in (1, 4):
        file = file_of(scalar_model, video(scalar_model, frames))
        assert file.header.chunk == () and len(video_file.unpack_video(scalar_model, file)[0]) == frames


def test_large_frames_are_chunks_of_their_own(scalar_model):
    file = file_of(scalar_model, video(scalar_model, 3, 8, 9))
    assert file.header.chunk == (1, 8, 9)


def test_chunks_are_of_64_frames_at_most(scalar_model, monkeypatch):
    monkeypatch.setattr(image_file, "CHUNK", 1024)
    assert video_file.chunk_frames(scalar_model, 1, 1) == 64
    assert video_file.chunk_frames(scalar_model, 64, 64) == 16
    assert video_file.chunk_frames(scalar_model, 1000, 1000) == 1


@pytest.mark.parametrize("levels", [1, 2])
def test_levels(vector_model, levels):
    codes = video(vector_model)
    file = file_of(vector_model, codes)
    for part, wanted in ((vqz.drop_levels(file, levels), None), (file, levels)):
        again, _ = video_file.unpack_video(vector_model, part, levels=wanted)
        assert np.array_equal(again.codes, codes.codes[: 2 * levels])
    with pytest.raises(UsageError):
        video_file.unpack_video(vector_model, file, levels=4)


# ---------------------------------------------------------------- parts, damage


@pytest.mark.parametrize("wanted", [slice(0, 1), slice(3, 5), slice(5, 7), slice(10, 11), slice(0, 11)], ids=str)
def test_a_part_needs_its_own_chunks_alone(scalar_model, wanted):
    codes = video(scalar_model)
    file = file_of(scalar_model, codes)
    kept = tuple(
        payload if 4 * number < wanted.stop and wanted.start < 4 * number + 4 else None
        for number, payload in enumerate(file.payloads)
    )
    again, lost = video_file.unpack_video(scalar_model, replace(file, payloads=kept), wanted=wanted)
    assert np.array_equal(again.codes, codes.codes[:, wanted]) and not lost.any()


@pytest.mark.parametrize("coder", [*CODERS, "prior"])
def test_a_flipped_byte_costs_its_chunk_alone(prior_model, coder):
    codes = video(prior_model)
    header, payloads = video_file.pack_video(prior_model, codes, coder=coder)
    data = bytearray(vqz.pack(header, payloads))
    data[-len(payloads[2]) - 1] ^= 1
    with pytest.raises(DamagedChunks) as caught:
        vqz.unpack(bytes(data))
    assert caught.value.chunks == (1,)
    file = vqz.unpack(bytes(data), salvage=True)
    again, lost = video_file.unpack_video(prior_model, file)
    assert lost.tolist() == [4 <= frame < 8 for frame in range(11)]
    assert np.array_equal(lost, video_file.lost_frames(file))
    assert np.array_equal(again.codes[:, ~lost], codes.codes[:, ~lost])


def test_codes_that_fail_their_checksum(vector_model):
    file = file_of(vector_model, video(vector_model))
    crcs = (*file.header.codes_crcs[:-1], file.header.codes_crcs[-1] ^ 1)
    wrong = replace(file, header=replace(file.header, codes_crcs=crcs))
    with pytest.raises(BadFile, match="checksum"):
        video_file.unpack_video(vector_model, wrong)
    video_file.unpack_video(vector_model, wrong, levels=2)  # whose checksums are right
    video_file.unpack_video(vector_model, wrong, wanted=slice(0, 5))  # of which it does not tell


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (12, 8, 12, 12_500)},  # one frame more than the grid has
        {"size": (13, 8, 11, 12_500)},
        {"size": (2**16, 2**15, 11, 12_500)},  # more pixels than vq decodes
        {"grid": (11, 2, 4)},
        {"grid": (12, 2, 3)},
        {"chunk": (4, 1, 3)},  # no whole frames
        {"quality": 0},
        {"quality": 31},  # the model has three
        {"codebook_sizes": (9, 9)},
        {"coder": 3},
        {"coder": 77},
    ],
    ids=str,
)
def test_a_lying_header_is_a_bad_file(scalar_model, lie):
    file = file_of(scalar_model, video(scalar_model), "packed")
    with pytest.raises(BadFile):
        video_file.unpack_video(scalar_model, replace(file, header=replace(file.header, **lie)))


@pytest.mark.parametrize(("frames", "rows"), [(65, 2), (64, 2**14)])
def test_chunks_too_large_to_hold(scalar_model, frames, rows):
    file = file_of(scalar_model, video(scalar_model), "packed")
    size = (12, 4 * rows, frames, 12_500)
    header = replace(file.header, size=size, grid=(frames, rows, 3), chunk=())
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="chunks"):
            video_file.unpack_video(scalar_model, replace(file, header=header))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_picture_is_no_clip_and_a_clip_no_picture(scalar_model, vector_model):
    file = file_of(scalar_model, video(scalar_model))
    with pytest.raises(BadFile, match="video"):
        image_file.unpack_image(scalar_model, file)
    with pytest.raises(BadFile, match="codebooks"):
        video_file.unpack_video(vector_model, replace(file, header=replace(file.header, quality=0)))


def test_models_of_one_size(scalar_model, monkeypatch):
    file = file_of(scalar_model, video(scalar_model))
    monkeypatch.setattr(scalar_model.net, "frame_size", (8, 12), raising=False)
    video_file.unpack_video(scalar_model, file)
    monkeypatch.setattr(scalar_model.net, "frame_size", (84, 84), raising=False)
    with pytest.raises(BadFile, match="12 x 8"):
        video_file.unpack_video(scalar_model, file)


def test_no_frames_or_too_many(scalar_model, monkeypatch):
    with pytest.raises(BadFile, match="a frame at least"):
        video_file.pack_frames(scalar_model, [], 25_000)
    monkeypatch.setattr(video_file, "MAX_FRAMES", 10)
    with pytest.raises(BadFile, match="too much"):
        video_file.pack_video(scalar_model, video(scalar_model))


def test_codes_that_memory_should_not_hold(scalar_model, monkeypatch):
    monkeypatch.setattr(video_file, "MAX_CODES", 100)
    file = file_of(scalar_model, video(scalar_model))
    with pytest.raises(UsageError, match="at once"):
        video_file.unpack_video(scalar_model, file)
    video_file.unpack_video(scalar_model, file, wanted=slice(0, 5))
    assert sum(1 for _ in video_file.unpack_frames(scalar_model, file)) == 11


def test_a_file_for_a_prior_that_is_not_there(prior_model, scalar_model):
    file = file_of(prior_model, video(prior_model), "prior")
    with pytest.raises(ModelError):
        video_file.unpack_video(scalar_model, file)


# ---------------------------------------------------------------- memory


def test_no_more_than_a_chunk_is_held(scalar_model):
    codes = video(scalar_model, 60)
    alive: set[int] = set()
    most = 0

    def counted():
        nonlocal most
        for number in range(60):
            frame = replace(codes.frame(number), codes=codes.codes[:, number].copy())
            alive.add(number)
            weakref.finalize(frame.codes, alive.discard, number)
            most = max(most, len(alive))
            yield frame

    header, payloads = video_file.pack_frames(scalar_model, counted(), 12_500, coder="packed")
    assert header.chunk_count == 15 and most <= 9  # two chunks, and the frame that is passed on
    most = 0
    alive.clear()
    for number, (frame, _) in enumerate(video_file.unpack_frames(scalar_model, vqz.unpack(vqz.pack(header, payloads)))):
        base = frame.codes.base  # that of the chunk
        if number % 4 == 0:
            alive.add(number)
            weakref.finalize(base, alive.discard, number)
        most = max(most, len(alive))
    assert most <= 2


@pytest.mark.fault("14 memory and time")
def test_frames_that_are_not_decoded_are_not_encoded(scalar_model, monkeypatch):
    monkeypatch.setattr(video_file.bounds, "MAX_FRAME_PIXELS", 95)
    with pytest.raises(BadFile, match="more than the 95 that vq decodes"):
        video_file.pack_video(scalar_model, video(scalar_model, 2))
