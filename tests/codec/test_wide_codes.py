"""Codebooks of up to 2^18 vectors, as of tokenizers without look-up: codes are uint32, from end to end."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.codec import audio_file, exchange, image_file, video_file
from vqcli.codec.codes import AudioCodes, ImageCodes, VideoCodes, code_type
from vqcli.container import vqz
from vqcli.zoo import loading, registry

K = 2**18


def of_family(folder, name, family, arguments, modality):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build(family, arguments)
        for tensor in net.state_dict().values():
            if tensor.ndim > 1 and tensor.shape[-2] == K:  # a codebook, whose first half is far from everything
                tensor[..., : K // 2, :] = 1000.0
    description = {"family": family, "arguments": arguments, "modality": modality}
    return loading.load(loading.save(folder / name, net, None, description), "cpu")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two codebooks of K = 2^18 on strides of 8."""
    arguments = {"width": 2, "decoder_width": 4, "strides": (2, 4), "rate_hz": 4000, "codebooks": 2, "K": K}
    return of_family(tmp_path_factory.mktemp("models"), "wide-sound", "dac", arguments | {"code_dim": 2}, "audio")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    quantizer = {"kind": "vector", "K": K, "groups": 1, "levels": 2}
    arguments = {"widths": [4, 4], "dim": 2, "blocks": 1, "quantizer": quantizer}
    return of_family(tmp_path_factory.mktemp("models"), "wide-images", "vqvae2d", arguments, "image")


def drawn(*shape):
    """Codes of which some need 18 bits."""
    codes = np.random.default_rng(0).integers(0, K, shape).astype(np.uint32)
    codes.flat[0] = K - 1
    return codes


def test_types():
    assert code_type((2, 65_536)) is np.uint16 and code_type((2, 65_537)) is np.uint32


@pytest.mark.parametrize("coder", ["packed", "adaptive"])
def test_sound_there_and_back(sound, coder):
    codes = AudioCodes(drawn(1, 2, 60), 4000, 480, 1, (0.0,), (b"",))
    file = vqz.unpack(vqz.pack(*audio_file.pack_audio(sound, codes, coder=coder)))
    assert file.header.version == 3
    back, _ = audio_file.unpack_audio(sound, file)
    assert back.codes.dtype == np.uint32 and np.array_equal(back.codes, codes.codes)
    less, _ = audio_file.unpack_audio(sound, vqz.drop_levels(file, 1))
    assert np.array_equal(less.codes, codes.codes[:, :1])


@pytest.mark.parametrize("coder", ["packed", "adaptive"])
def test_images_and_clips_there_and_back(pictures, coder):
    image = ImageCodes(drawn(2, 4, 5), (20, 16), 3, 0)
    file = vqz.unpack(vqz.pack(*image_file.pack_image(pictures, image, coder=coder)))
    assert np.array_equal(image_file.unpack_image(pictures, file)[0].codes, image.codes)
    clip = VideoCodes(drawn(2, 3, 4, 5), (20, 16), 25_000)
    file = vqz.unpack(vqz.pack(*video_file.pack_video(pictures, clip, coder=coder)))
    assert np.array_equal(video_file.unpack_video(pictures, file)[0].codes, clip.codes)
    assert np.array_equal(video_file.unpack_video(pictures, vqz.drop_levels(file, 1))[0].codes, clip.codes[:1])


def test_media_through_the_nets(sound, pictures):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    encoded = vqcli.encode(pixels, pictures, coder="packed")
    assert encoded.codes.dtype == np.uint32 and encoded.codes.max() >= 65_536
    assert np.array_equal(vqcli.decode(encoded, pictures).codes, encoded.codes)
    samples = 0.1 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    encoded = vqcli.encode(samples, sound, rate_hz=4000, coder="packed")
    assert encoded.codes.dtype == np.uint32 and encoded.codes.max() >= 65_536
    assert np.array_equal(vqcli.decode(encoded, sound).codes, encoded.codes)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("format", ["npy", "npz", "json", "safetensors"])
def test_exported_and_imported(sound, tmp_path, monkeypatch, format, flat):
    monkeypatch.setenv("VQ_MODELS", str(sound.info.folder.parent))
    codes = AudioCodes(drawn(1, 2, 60), 4000, 480, 1, (0.0,), (b"",))
    vqz.write(tmp_path / "a.vqz", *audio_file.pack_audio(sound, codes, coder="packed"))
    if format == "npy" and flat:  # which does not say its shape
        return
    there, back = tmp_path / f"a.{format}", tmp_path / "b.vqz"

    def vq(*arguments):
        run = CliRunner().invoke(app, [str(each) for each in arguments])
        assert run.exit_code == 0, run.output

    vq("export", tmp_path / "a.vqz", "-o", there, "--format", format, *["--flatten"] * flat)
    array, _ = exchange.read(there)
    assert flat or (np.array_equal(array, codes.codes[0]) and (format == "json" or array.dtype == np.uint32))
    vq("import", there, "-o", back, "--coder", "packed", "--model", "wide-sound")
    assert back.read_bytes() == (tmp_path / "a.vqz").read_bytes()
