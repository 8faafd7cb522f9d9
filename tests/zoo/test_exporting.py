"""Models in ONNX, run by onnxruntime, give what torch gives, at sizes that they were not traced with."""

import json
import re
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from vqcli.errors import ModelError, UsageError
from vqcli.media import voice
from vqcli.nets.layers.noise import white_noise
from vqcli.progress import silent
from vqcli.zoo import exporting, loading, registry

# as few layers as have all kinds of layers: tracing takes a while for each
SMALL = {
    "vqvae2d": {
        **{"widths": [8, 8], "dim": 4, "blocks": 0},
        "quantizer": {"kind": "vector", "K": 8, "groups": 2, "levels": 2},
    },
    "lapped2d": {"width": 16, "dim": 8, "blocks": 1, "rate": {"slices": [2, 6], "levels": 1, "hidden": 8}},
    "vqgan2d": {
        "net": {"widths": [8, 8], "blocks": 1, "attention": [], "z_channels": 4, "groups": 4},
        **{"dim": 4, "K": 16, "quantizer": "logits"},
    },
    "speech": {
        **{"K": 16, "width": 16, "blocks": [0, 1], "levels": 2, "voice_dim": 8},
        **{"decoder_width": 16, "decoder_blocks": 1},
    },
    "encodec": {"net": {"width": 4, "dim": 8, "ratios": [4]}, "codebooks": 2, "K": 16},
    "encodec_stereo": {
        "net": {"width": 4, "dim": 8, "ratios": [4]},
        **{"rate_hz": 1000, "segment": 400, "hop": 396, "codebooks": 2, "K": 16},
    },
    "wavtokenizer": {
        "net": {"width": 4, "dim": 8, "ratios": [5, 4]},
        **{"rate_hz": 1000, "K": 16, "width": 16, "blocks": 1, "groups": 4, "n": 40},
    },
    "emu3": {"net": {"widths": [8, 8], "blocks": 1, "attention": [1], "z_channels": 4, "groups": 4}, "K": 16},
    "mimi": {
        "net": {"width": 8, "dim": 16, "ratios": [4]},
        "transformer": {"layers": 1, "heads": 2, "hidden": 16, "window": 8},
        **{"codebooks": [1, 1], "K": 16, "dim": 8},
    },
    "dac": {"width": 4, "decoder_width": 8, "strides": [3], "codebooks": 2, "K": 16},
    "snac": {
        **{"width": 32, "strides": [2], "decoder_width": 64, "decoder_strides": [2], "window": 4, "K": 16},
        "level_strides": [2, 1],
    },
}
IMAGES = ("lapped2d", "vqgan2d", pytest.param("emu3", marks=pytest.mark.slow))
WAVEFORMS = ("encodec", "mimi", "dac", "wavtokenizer")


def made(folder, family, arguments=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build(family, SMALL[family] if arguments is None else arguments)
    modality = "image" if family.endswith("2d") or family == "emu3" else "audio"
    description = {"family": family, "arguments": arguments or SMALL[family], "modality": modality}
    return loading.load(loading.save(folder / family, net, None, description), "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


def exported(folder, family, **options):
    model = made(folder / "models", family)
    exporting.export(model, folder / family, **options)
    return model, [onnxruntime.InferenceSession(folder / family / f"{name}.onnx") for name in ("encoder", "decoder")]


def near(a, b):
    return np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


@pytest.mark.parametrize("family", IMAGES)
@torch.no_grad()
def test_images(folder, family):
    model, (encoder, decoder) = exported(folder, family)
    net = model.image
    quality = torch.tensor([3.3]) if net.qualities else None
    given = {} if quality is None else {"quality": quality.numpy()}
    for rows, columns in ((6, 11), (21, 3)):
        low, high = net.value_range
        x = torch.rand(1, 3, rows * net.stride, columns * net.stride) * (high - low) + low
        codes = net.quantize(net.latents(x), quality)
        (found,) = encoder.run(None, {"image": x.numpy(), **given})
        assert found.dtype == np.int64 and (found == codes.numpy()).mean() >= 0.999
        (image,) = decoder.run(None, {"codes": codes.numpy(), **given})
        assert near(image, net.decode(codes, quality).numpy())


@pytest.mark.parametrize("family", WAVEFORMS)
@torch.no_grad()
def test_waveforms(folder, family):
    model, (encoder, decoder) = exported(folder, family)
    net = model.audio
    for positions in (3, 70):
        wave = torch.randn(1, 1, positions * net.stride) * 0.2
        codes = net.encode(wave)
        (found,) = encoder.run(None, {"wave": wave.numpy()})
        assert (found == codes.numpy()).mean() >= 0.999
        (again,) = decoder.run(None, {"codes": codes.numpy()})
        assert near(again, net.decode(codes).numpy())


@torch.no_grad()
def test_segments_of_two_channels(folder):
    model, (encoder, decoder) = exported(folder, "encodec_stereo")
    net = model.audio
    for positions in (3, 100):
        waves = 0.2 * torch.randn(2, 2, positions * net.stride)
        codes, scales = encoder.run(None, {"wave": waves.numpy()})
        wanted = net.encode_segments(waves, torch.from_numpy(scales))
        assert near(scales, waves.mean(1).square().mean(1).sqrt().numpy()) and (codes == wanted.numpy()).mean() >= 0.999
        (again,) = decoder.run(None, {"codes": codes, "scale": scales})
        assert near(again, net.decode_segments(wanted, torch.from_numpy(scales)).numpy())


@torch.no_grad()
def test_noise_comes_from_the_caller(folder):
    """With the noise that vq would draw, a decoder makes what vq makes."""
    model, (encoder, decoder) = exported(folder, "snac")
    net, positions = model.audio, 5
    wave = torch.randn(1, 1, positions * net.stride) * 0.2
    codes = net.encode(wave)
    assert (encoder.run(None, {"wave": wave.numpy()})[0] == codes.numpy()).mean() >= 0.999
    frames = positions * net.frames
    noise = white_noise(1, 0, 2 * frames, 7, 0)
    (again,) = decoder.run(None, {"codes": codes.numpy(), "noise": noise.numpy()})
    assert near(again, net.decode_window(codes, 0, 7).numpy())
    (quiet,) = decoder.run(None, {"codes": codes.numpy(), "noise": 0 * noise.numpy()})
    assert not near(quiet, again)


@torch.no_grad()
def test_speech(folder):
    model, (encoder, decoder) = exported(folder, "speech")
    net, positions = model.audio, 60
    time = np.arange(positions * net.stride) / net.rate_hz
    wave = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 10)) * np.sin(3 * time) ** 2 * 0.1
    wave = (wave + np.random.default_rng(0).normal(0, 0.002, len(wave))).astype(np.float32)
    analysis = net.analyse(wave, [])
    profile, pitches = analysis.known
    ours = net.profiles(torch.from_numpy(wave)[None], torch.from_numpy(pitches).long()[None])
    assert torch.allclose(ours, profile, atol=1e-4) and (pitches > 0).any()
    codes, values, register = encoder.run(None, {"wave": wave[None], "pitch": pitches[None].astype(np.int64)})
    wanted = net.encode_window(torch.from_numpy(wave), analysis, 0).numpy()
    assert (codes[0] == wanted).mean() >= 0.999
    assert np.allclose(values[0], net._voice(analysis.stored)[0]) and np.isclose(register[0], profile[0, -3])
    known = net._voice(analysis.stored)
    noise = white_noise(1, 0, len(wave), 3)
    given = {"codes": codes, "voice": values, "register": known[1][None].numpy(), "noise": noise.numpy()}
    (again,) = decoder.run(None, given)
    parts = net.decode_windows(codes, [analysis.stored], (0, positions), seed=3, progress=silent)
    wanted = np.concatenate(list(parts), 1)
    assert np.abs(again - wanted).max() <= 1e-2 * np.abs(wanted).max()  # harmonics are sensitive, and float32 in vq


def test_silence_has_a_profile(tmp_path):
    net = made(tmp_path, "speech").audio
    silent_wave, unvoiced = np.zeros(10 * net.stride, np.float32), np.zeros(10, np.uint8)
    ours = net.profiles(torch.from_numpy(silent_wave)[None], torch.from_numpy(unvoiced).long()[None])
    assert np.allclose(ours[0], voice.profile(silent_wave, unvoiced), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "arguments", "why"),
    [
        (
            "vqvae1d",
            {"K": 16, "width": 8, "wavenet": {"residual": 8, "skip": 8, "cycles": 1, "layers_per_cycle": 2}},
            "WaveNet",
        ),
        ("xcodec2", {"lattice": [4, 4], "dim": 8, "width": 32, "layers": 1, "heads": 2, "hidden": 16}, "to decode"),
        ("vae2d", {"widths": [8, 8], "dim": 8, "blocks": 1}, "no codes"),
        (
            "twostage2d",
            {"first": {"widths": [8, 8]}, "side": 32, "widths": [8, 8, 8], "decoder": {"width": 8}},
            "samples",
        ),
    ],
)
def test_what_no_graph_does_is_refused(tmp_path, family, arguments, why):
    model = made(tmp_path, family, arguments)
    with pytest.raises(ModelError, match=why):
        exporting.export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "traced", lambda *_: b"")
    monkeypatch.setattr(exporting, "compared", lambda *_: (0.9, None))
    with pytest.raises(ModelError, match=r"90.0000% of its codes are equal"):
        exporting.export(made(tmp_path, "vqvae2d"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match="needs the package onnxscript") as raised:
        exporting.export(made(tmp_path, "vqvae2d"), tmp_path / "out")
    assert "vqcli[onnx]" in raised.value.hint


@pytest.fixture(scope="module")
def first_level(folder):
    """The first of two levels: 2 of 4 codebooks."""
    model = made(folder / "models", "vqvae2d")
    exporting.export(model, folder / "first", levels=1)
    return model, folder / "first"


def test_the_first_levels_alone(first_level):
    model, folder = first_level
    x = torch.rand(1, 3, 20, 24) - 0.5
    (codes,) = onnxruntime.InferenceSession(folder / "encoder.onnx").run(None, {"image": x.numpy()})
    assert np.array_equal(codes, model.image.quantize(model.image.latents(x))[:, :2])
    (image,) = onnxruntime.InferenceSession(folder / "decoder.onnx").run(None, {"codes": codes})
    assert near(image, model.image.decode(torch.from_numpy(codes)).numpy())
    with pytest.raises(UsageError, match="has 2 levels, not 3"):
        exporting.export(model, folder, levels=3)


def test_files_are_never_replaced_unasked(first_level):
    model, folder = first_level
    before = (folder / "decoder.onnx").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        exporting.export(model, folder)
    assert (folder / "decoder.onnx").read_bytes() == before


def test_the_description_and_the_page(first_level, monkeypatch):
    model, folder = first_level
    facts = json.loads((folder / "model.json").read_text())
    assert facts["digest"] == model.info.digest.hex() and facts["K"] == [8, 8] and facts["stride"] == 4
    (image,) = facts["encoder"]["inputs"]
    assert image["shape"] == ["batch", 3, "4 * rows", "4 * columns"] and image["range"] == [-0.5, 0.5]
    assert facts["decoder"]["inputs"] == facts["encoder"]["outputs"]
    assert facts["encoder"]["compared_with_torch"]["equal_codes"] >= 0.999
    text = (folder / "README.md").read_text()
    assert "onnxruntime-web" in text and not re.search(r"\$\w|\$\{", text)
    monkeypatch.chdir(folder)
    shared = {}
    exec(re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1], shared)
    assert shared["pixels"].shape == (1, 3, 16, 24)


@pytest.mark.parametrize("family", ["speech", "snac", "encodec"])
def test_the_pages_of_audio(folder, family, monkeypatch):
    if not (folder / family).exists():
        exported(folder, family)
    text = (folder / family / "README.md").read_text()
    assert not re.search(r"\$\w|\$\{", text) and ("inputs.noise" in text) == (family != "encodec")
    monkeypatch.chdir(folder / family)
    shared = {}
    exec(re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1], shared)
    assert shared["wave"].shape[-1] == shared["P"] * json.loads((folder / family / "model.json").read_text())["stride"]
