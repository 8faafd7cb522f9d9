"""Other people's models by the command line alone: import, encode, info, decode, eval, salvage.

Each folder is what the library of its net saves, small and with random weights.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from vqcli.cli.main import app
from vqcli.media import image
from vqcli.zoo import store

Run = Callable[..., Result]


def encodec() -> Any:
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, codebook_size=64, target_bandwidths=[1.8]))


def encodec_stereo() -> Any:
    from transformers import EncodecConfig, EncodecModel

    layout = {"audio_channels": 2, "normalize": True, "norm_type": "time_group_norm", "use_causal_conv": False}
    sizes = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "target_bandwidths": [1.8]}
    return EncodecModel(EncodecConfig(sampling_rate=48_000, chunk_length_s=1.0, overlap=0.01, **layout, **sizes))


def dac() -> Any:
    from transformers import DacConfig, DacModel

    widths = {"encoder_hidden_size": 8, "decoder_hidden_size": 64, "downsampling_ratios": [2, 4, 5, 8]}
    return DacModel(DacConfig(n_codebooks=6, codebook_size=64, sampling_rate=16_000, **widths))


def mimi() -> Any:
    from transformers import MimiConfig, MimiModel

    net = {"num_filters": 4, "hidden_size": 32, "upsampling_ratios": [8, 6, 5, 4], "upsample_groups": 32}
    attention = {"num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 48}
    books = {"num_quantizers": 6, "codebook_size": 64, "codebook_dim": 16, "vector_quantization_hidden_dimension": 16}
    return MimiModel(MimiConfig(**net, **attention, **books))


def wavtokenizer() -> Any:
    from transformers import WavTokenizerConfig, WavTokenizerModel

    encoder = {"num_filters": 4, "upsampling_ratios": [8, 5, 5, 3], "hidden_size": 16, "codebook_size": 64}
    decoder = {"codebook_dim": 16, "decoder_hidden_size": 32, "decoder_intermediate_size": 96, "decoder_num_layers": 2}
    return WavTokenizerModel(WavTokenizerConfig(**encoder, **decoder, decoder_attention_num_groups=8))


class Snac:
    """What the package snac loads, which saves nothing itself."""

    def save_pretrained(self, folder: Path) -> None:
        from snac import SNAC

        widths = {"sampling_rate": 24_000, "encoder_dim": 16, "decoder_dim": 64, "codebook_size": 64}
        strides = {"encoder_rates": [2, 4, 8], "decoder_rates": [8, 4, 2], "vq_strides": [4, 2, 1]}
        config = {**widths, **strides, "attn_window_size": None, "noise": True, "depthwise": True}
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        torch.save(SNAC(**config).state_dict(), folder / "pytorch_model.bin")


def vqgan2d() -> Any:
    from diffusers import VQModel

    down, up = "DownEncoderBlock2D", "UpDecoderBlock2D"
    blocks = {"down_block_types": (down, f"Attn{down}"), "up_block_types": (f"Attn{up}", up)}
    return VQModel(**blocks, block_out_channels=(8, 16), norm_num_groups=2, num_vq_embeddings=64)


def emu3() -> Any:
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    sizes = {"codebook_size": 200, "base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1}
    return Emu3VQVAE(Emu3VQVAEConfig(**sizes, attn_resolutions=[1], hidden_size=64))


SOUNDS: dict[str, Callable[[], Any]] = {
    **{"encodec": encodec, "encodec_stereo": encodec_stereo, "dac": dac, "snac": Snac, "mimi": mimi},
    "wavtokenizer": wavtokenizer,
}
IMAGES: dict[str, Callable[[], Any]] = {"vqgan2d": vqgan2d, "emu3": emu3}


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None needs torchaudio, but imports it where it can; a build of that for another torch would be an error."""
    for package in ("transformers", "diffusers", "snac"):
        pytest.importorskip(package)
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", stub)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


@pytest.fixture
def vq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """vq("encode", "a.png") in an empty folder, with a folder of imported models of its own; it must exit with 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "models")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result

    return run


def walk(vq: Run, family: str, make: Callable[[], Any], name: str, suffix: str) -> Any:
    """From the saved folder to the figures of `vq eval`; codes in `coded.vqz`, what comes back in `back` + suffix."""
    make().save_pretrained(Path("saved"))
    assert family in vq("models", "import", "saved", "-o", "theirs").output
    vq("encode", name, "--model", "theirs", "-o", "coded.vqz")
    facts = json.loads(vq("info", "coded.vqz", "--json").stdout)
    assert facts["model"] == "theirs"
    vq("decode", "coded.vqz", "-o", f"back{suffix}")
    return json.loads(vq("eval", "rd", name, "--model", "theirs", "--baselines", "", "--json").stdout)


def damage(vq: Run, suffix: str) -> None:
    """Turn a bit in the last payload: refused as it is, and decoded with --salvage."""
    content = bytearray(Path("coded.vqz").read_bytes())
    content[-1] ^= 1
    Path("damaged.vqz").write_bytes(content)
    refused = CliRunner().invoke(app, ["decode", "damaged.vqz", "-o", f"x{suffix}"])
    assert "damaged" in refused.output and refused.exit_code != 0 and not Path(f"x{suffix}").exists()
    vq("decode", "damaged.vqz", "--salvage", "-o", f"x{suffix}")


@pytest.mark.parametrize("family", SOUNDS)
def test_a_recording(family: str, vq: Run) -> None:
    rate_hz = 24_000
    time = np.arange(rate_hz) / rate_hz
    soundfile.write("talk.wav", 0.1 * np.sin(2 * np.pi * 150 * time * (1 + 0.1 * time)), rate_hz)
    source, *levels = walk(vq, family, SOUNDS[family], "talk.wav", ".wav")
    assert source["codec"] == "source" and [each["levels"] for each in levels] == list(range(1, len(levels) + 1))
    rates = [each["kbit_per_s"] for each in levels]
    assert rates == sorted(rates) and all(each["log_mel_distance_db"] > 0 for each in levels)
    damage(vq, ".wav")
    for written in ("back.wav", "x.wav"):
        samples, at_hz = soundfile.read(written)
        assert len(samples) == at_hz and np.isfinite(samples).all()


@pytest.mark.parametrize("family", IMAGES)
def test_an_image(family: str, vq: Run, picture: Callable[..., np.ndarray]) -> None:
    image.write(Path("photo.png"), picture(38, 50))
    figures = walk(vq, family, IMAGES[family], "photo.png", ".png")
    (point,) = figures["points"]
    assert point["bits_per_pixel"] == 8 * Path("coded.vqz").stat().st_size / (38 * 50) and point["psnr_db"] > 5
    damage(vq, ".png")
    for written in ("back.png", "x.png"):
        assert image.read(Path(written)).pixels.shape == (38, 50, 3)
