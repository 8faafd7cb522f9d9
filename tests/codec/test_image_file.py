import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from vqcli.codec import image_file, tiling
from vqcli.codec.codes import ImageCodes, keep_levels
from vqcli.codec.image import search_quality
from vqcli.container import vqz
from vqcli.container.vqz import Vqz
from vqcli.entropy import coders
from vqcli.entropy.coders import packed
from vqcli.errors import BadFile, DamagedChunks, ModelError, UsageError
from vqcli.nets.priors import rounding
from vqcli.zoo import loading, priors, registry, store

PLAIN = ["packed", "histogram", "adaptive"]  # coders that need no prior


@pytest.fixture(scope="module")
def prior_model(make_model, scalar_model, tmp_path_factory):
    """The scalar model again, with a tiny prior for entropy coding beside it."""
    model = make_model("with-prior", tmp_path_factory.mktemp("prior"), **scalar_model.info.description["arguments"])
    put_prior(model, seed=0)
    return model


def put_prior(model, seed: int) -> bytes:
    """Write a random prior beside a model; its digest."""
    arguments = {"codebook_sizes": model.net.quantizer.codebook_sizes, "qualities": 3, "hidden": 8, "levels": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = registry.build("exact", arguments)
    tensors = {name: torch.from_numpy(array) for name, array in rounding.rounded(net).arrays().items()}
    description = {"family": "exact", "arguments": arguments, "codec": model.info.digest.hex()}
    return priors.save(model.info.folder, tensors, description).digest


@pytest.fixture(params=["scalar_model", "vector_model", "prior_model"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 4 x 4 codes at stride 4, so that 44 x 36 pixels take 3 x 3."""
    monkeypatch.setattr(image_file, "CHUNK", 16)


def file_of(model, image: ImageCodes, coder: str = "auto") -> Vqz:
    return vqz.unpack(vqz.pack(*image_file.pack_image(model, image, coder=coder)))


@pytest.mark.parametrize("chunk", [16, 1024])
@pytest.mark.parametrize("coder", ["auto", *PLAIN])
def test_codes_come_back(model, picture, monkeypatch, coder, chunk):
    monkeypatch.setattr(image_file, "CHUNK", chunk)
    image = tiling.encode_image(model, picture(44, 33, 1))
    header, payloads = image_file.pack_image(model, image, coder=coder, metadata={"title": "noise"})
    assert header.chunk_count == (9 if chunk == 16 else 1)
    assert (header.model, header.digest) == (model.info.name, model.info.digest)
    assert (header.size, header.quality, header.metadata) == ((33, 44, 1), image.quality, {"title": "noise"})
    assert len(payloads) == header.levels * header.chunk_count
    decoded, lost = image_file.unpack_image(model, vqz.unpack(vqz.pack(header, payloads)))
    assert np.array_equal(decoded.codes, image.codes)
    assert (decoded.size, decoded.channels, decoded.quality) == (image.size, image.channels, image.quality)
    assert lost.shape == image.codes.shape[1:] and not lost.any()


def random_image(model, rows: int, columns: int) -> ImageCodes:
    """Uniform codes, which only `packed` can hope to hold."""
    sizes = np.array(model.net.quantizer.codebook_sizes)[:, None, None]
    codes = np.random.default_rng(0).integers(0, sizes, (len(sizes), rows, columns)).astype(np.uint16)
    return ImageCodes(codes, (4 * columns, 4 * rows), 3, 10 * bool(model.net.quantizer.qualities))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (12, 11)], ids=str)
def test_auto_is_the_smallest_and_never_above_packed(model, picture, shape):
    smooth = tiling.encode_image(model, picture(4 * shape[0], 4 * shape[1]))
    for image in (smooth, random_image(model, *shape)):
        sizes = {
            coder: image_file.file_size(model, image, coder=coder)
            for coder in ["auto", *PLAIN, *(["prior"] if model.entropy_model else [])]
        }
        assert sizes["auto"] == min(sizes.values()) <= sizes["packed"]


def test_packed_size(vector_model):
    header, payloads = image_file.pack_image(vector_model, random_image(vector_model, 8, 8), coder="packed")
    size = packed.size_bytes((header.groups, *header.grid), header.codebook_sizes)
    assert size == sum(map(len, payloads)) == 8 * 8 * 6 * 3 // 8


# ---------------------------------------------------------------- levels


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("coder", PLAIN)
def test_levels_can_be_dropped_or_left_unread(vector_model, picture, small_chunks, coder, levels):
    image = tiling.encode_image(vector_model, picture(44, 36))
    file = file_of(vector_model, image, coder)
    fewer = vqz.drop_levels(file, levels)
    for part, wanted in ((fewer, None), (file, levels)):
        decoded, _ = image_file.unpack_image(vector_model, part, levels=wanted)
        assert np.array_equal(decoded.codes, image.codes[: 2 * levels])
    kept = keep_levels(vector_model, image, levels)
    assert image_file.pack_image(vector_model, kept, coder=coder) == (fewer.header, fewer.payloads)


def test_levels_that_are_not_there(vector_model, picture):
    image = tiling.encode_image(vector_model, picture(8, 8))
    for levels in (0, -1, 4):
        with pytest.raises(UsageError):
            keep_levels(vector_model, image, levels)
        with pytest.raises(UsageError):
            image_file.unpack_image(vector_model, file_of(vector_model, image), levels=levels)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("coder", PLAIN)
def test_a_flipped_byte_costs_its_window_alone(model, picture, small_chunks, coder):
    image = tiling.encode_image(model, picture(44, 36))
    header, payloads = image_file.pack_image(model, image, coder=coder)
    data = bytearray(vqz.pack(header, payloads))
    record = header.chunk_count * header.levels - 5  # the middle chunk of the last level
    data[len(data) - sum(map(len, payloads[record:]))] ^= 0x10
    with pytest.raises(DamagedChunks) as caught:
        vqz.unpack(bytes(data))
    assert caught.value.chunks == (record,)
    decoded, lost = image_file.unpack_image(model, vqz.unpack(bytes(data), salvage=True))
    window = header.chunk_windows()[4]
    assert lost[window].all() and lost.sum() == lost[window].size
    assert np.array_equal(decoded.codes[:, ~lost], image.codes[:, ~lost])
    sizes = np.array(header.codebook_sizes[-header.level_groups[0] :])
    middles = ((sizes - 1) // 2)[:, None]
    assert (decoded.codes[-header.level_groups[0] :, lost] == middles).all()
    if header.levels > 1:  # the levels before it are whole
        _, lost = image_file.unpack_image(model, vqz.unpack(bytes(data), salvage=True), levels=header.levels - 1)
        assert not lost.any()


def test_codes_that_fail_their_checksum(model, picture):
    file = file_of(model, tiling.encode_image(model, picture(12, 12)))
    crcs = (*file.header.codes_crcs[:-1], file.header.codes_crcs[-1] ^ 1)
    with pytest.raises(BadFile, match="checksum"):
        image_file.unpack_image(model, replace(file, header=replace(file.header, codes_crcs=crcs)))


def test_payloads_of_other_codes(model, picture):
    """Sound in themselves, but not the codes that the header vouches for."""
    a, b = (file_of(model, tiling.encode_image(model, picture(12, 12 + i)[:, :12]), "packed") for i in range(2))
    with pytest.raises(BadFile):
        image_file.unpack_image(model, replace(a, payloads=b.payloads, lengths=b.lengths))


def test_another_models_codebooks(scalar_model, vector_model, picture):
    file = file_of(vector_model, tiling.encode_image(vector_model, picture(12, 12)))
    with pytest.raises(BadFile, match="codebooks"):
        image_file.unpack_image(scalar_model, file)


def lying(model, **changes: object) -> Vqz:
    """A file that is sound as a container, with a header that its codes and its model do not bear out."""
    sizes = changes.pop("codebook_sizes", model.net.quantizer.codebook_sizes)
    levels, grid = changes.pop("levels", model.net.quantizer.levels), changes.pop("grid", (2, 2))
    codes = np.zeros((len(sizes), *grid), np.uint16)
    header = vqz.Header(
        modality="image", size=(8, 8, 3), grid=grid, codebook_sizes=sizes, levels=levels,
        model=model.info.name, digest=model.info.digest, coder=0,
        codes_crcs=tuple(vqz.codes_crc(part) for part in np.split(codes, levels)),
    )  # fmt: skip
    groups = header.level_groups[0]
    payloads = [coders.encode("packed", part, coders.Given(sizes[:groups])) for part in np.split(codes, levels)]
    return vqz.unpack(vqz.pack(replace(header, **changes), payloads))


def decode(model, file: Vqz) -> np.ndarray:
    return tiling.decode_image(model, image_file.unpack_image(model, file)[0])


def test_the_honest_version_decodes(model):
    assert decode(model, lying(model)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (8, 8, 2)},  # neither grey nor colour
        {"size": (8, 8, 4)},
        {"size": (2**15, 2**15, 3)},  # more pixels than vq decodes
        {"size": (9, 8, 3)},  # of three columns of codes
        {"grid": (2, 3)},
        {"coder": 3},  # the prior, without a word of which
        {"coder": 77},
        {"coder": 1},  # what was packed decodes to something else, if to anything
        {"coder": 2},
    ],
    ids=str,
)
def test_a_lying_header_is_a_bad_file(model, lie):
    with pytest.raises(BadFile):
        decode(model, lying(model, **lie))


@pytest.mark.parametrize(("groups", "levels"), [(1, 1), (3, 1), (3, 3), (4, 1), (6, 1), (6, 2), (6, 6)])
def test_groups_that_are_no_whole_levels_of_the_model(vector_model, groups, levels):
    """The model has 3 levels of 2 groups."""
    with pytest.raises(BadFile):
        decode(vector_model, lying(vector_model, codebook_sizes=(8,) * groups, levels=levels))


def test_fewer_scalar_groups_than_the_model_has(scalar_model):
    with pytest.raises(BadFile):
        decode(scalar_model, lying(scalar_model, codebook_sizes=(9, 9)))


def test_a_file_for_counts_that_the_model_has_not(vector_model):
    with pytest.raises(BadFile):
        decode(replace(vector_model, statistics=None), lying(vector_model, coder=1))


def test_a_huge_grid_is_refused_before_memory_is_taken(scalar_model):
    file = lying(scalar_model)
    file = replace(file, header=replace(file.header, grid=(2**12, 2**12)))
    tracemalloc.start()
    try:
        with pytest.raises(BadFile):
            image_file.unpack_image(scalar_model, file)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_file_of_another_modality(scalar_model):
    header = vqz.Header(
        modality="audio", size=(100, 16000, 1), grid=(4,), codebook_sizes=(9, 9, 15), levels=1, model="scalar",
        digest=scalar_model.info.digest, coder=0, codes_crcs=(0,),
    )  # fmt: skip
    with pytest.raises(BadFile, match="audio"):
        image_file.unpack_image(scalar_model, Vqz(header, (b"",), (0,)))


# ---------------------------------------------------------------- the exact prior


@pytest.mark.parametrize("chunk", [16, 1024])
def test_the_prior_tells_which_it_is(prior_model, picture, monkeypatch, chunk):
    monkeypatch.setattr(image_file, "CHUNK", chunk)
    image = tiling.encode_image(prior_model, picture(44, 33), quality=1.7)
    header, payloads = image_file.pack_image(prior_model, image, coder="prior")
    assert header.coder == coders.get("prior").ID and header.joint and header.prior == b""
    assert header.digest == store.joint_digest(prior_model.info.digest, prior_model.entropy_model[1])
    decoded, lost = image_file.unpack_image(prior_model, vqz.unpack(vqz.pack(header, payloads)))
    assert np.array_equal(decoded.codes, image.codes) and not lost.any()
    assert image_file.pack_image(prior_model, image, coder="adaptive")[0].prior == b""


def test_a_damaged_chunk_under_the_prior(prior_model, picture, small_chunks):
    image = tiling.encode_image(prior_model, picture(44, 36))
    header, payloads = image_file.pack_image(prior_model, image, coder="prior")
    data = bytearray(vqz.pack(header, payloads))
    data[-1] ^= 1
    with pytest.raises(DamagedChunks):
        vqz.unpack(bytes(data))
    decoded, lost = image_file.unpack_image(prior_model, vqz.unpack(bytes(data), salvage=True))
    assert lost[header.chunk_windows()[-1]].all() and lost.mean() < 0.2
    assert np.array_equal(decoded.codes[:, ~lost], image.codes[:, ~lost])


def test_a_chunk_that_is_whole_but_wrong(prior_model, picture):
    """The container's checksum vouches for the bytes; the codes' own still tells."""
    image = tiling.encode_image(prior_model, picture(44, 36))
    header, (payload,) = image_file.pack_image(prior_model, image, coder="prior")
    for position in range(0, len(payload) - 1, 7):
        wrong = bytearray(payload)
        wrong[position] ^= 0x10
        with pytest.raises(BadFile):
            image_file.unpack_image(prior_model, vqz.unpack(vqz.pack(header, (bytes(wrong),))))


def test_another_prior_or_none(make_model, prior_model, picture, tmp_path):
    arguments = prior_model.info.description["arguments"]
    model = make_model("with-prior", tmp_path, **arguments)
    assert model.info.digest == prior_model.info.digest
    file = file_of(prior_model, tiling.encode_image(prior_model, picture(12, 12)), "prior")
    used = file.header.digest.hex()
    with pytest.raises(ModelError, match=r"there is no exact\.safetensors beside it"):
        image_file.unpack_image(model, file)
    other = store.joint_digest(model.info.digest, put_prior(model, seed=1)).hex()
    with pytest.raises(ModelError, match=f"with-prior and its prior .{used}., not with those in .*{other}"):
        image_file.unpack_image(loading.load(model.info, "cpu"), file)
    plain = file_of(prior_model, tiling.encode_image(prior_model, picture(12, 12)), "adaptive")
    image_file.unpack_image(model, plain)  # which needs none
    assert put_prior(model, seed=0) == prior_model.entropy_model[1]
    image_file.unpack_image(loading.load(model.info, "cpu"), file)


def test_a_prior_that_is_broken(make_model, prior_model, picture, tmp_path):
    model = make_model("with-prior", tmp_path, **prior_model.info.description["arguments"])
    put_prior(model, seed=0)
    path = priors.path_of(model.info.folder, "exact")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="sound entropy model"):
        image_file.pack_image(model, tiling.encode_image(model, picture(8, 8)))
    priors.save(model.info.folder, {"slices": torch.ones(1)}, priors.describe(path).description)
    with pytest.raises(ModelError, match="sound entropy model"):
        image_file.pack_image(model, tiling.encode_image(model, picture(8, 8)))


def test_models_without_a_prior(scalar_model, vector_model, picture):
    for model in (scalar_model, vector_model):
        assert model.entropy_model is None
        with pytest.raises(UsageError, match="prior"):
            image_file.pack_image(model, tiling.encode_image(model, picture(8, 8)), coder="prior")


def test_a_rate_is_met_under_auto(prior_model, picture):
    pixels = picture(60, 60)
    sizes = {
        tenths: image_file.file_size(prior_model, tiling.encode_image(prior_model, pixels, quality=tenths / 10))
        for tenths in range(10, 31)
    }
    found = search_quality(prior_model, pixels, 8 * sizes[17] / 3600)
    assert image_file.file_size(prior_model, found) <= sizes[17]
    assert found.quality == 30 or sizes[found.quality + 1] > sizes[17]
