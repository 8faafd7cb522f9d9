"""Other people's nets at their released sizes, with random weights, beside the libraries that they come from.

`pytest -m slow -s tests/nets/codecs/test_full_sizes.py` prints a line for each: how many codes differ, and the largest
difference of the output, relative to its largest value. tests/README.md has them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.nets.layers.noise import white_noise
from vqcli.progress import silent
from vqcli.zoo import importing, registry

pytestmark = pytest.mark.slow
SECONDS = (0.4, 1.0, 1.37)
SIDES = ((64, 64), (96, 160), (256, 192))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None needs torchaudio, but imports it where it can; a build of that for another torch would be an error."""
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", stub)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


def own(family: str, tensors: dict, config: dict) -> Any:
    found = registry.importers()[family](Checkpoint(tensors, config))
    assert found is not None
    return importing.checked(family, found).eval()


def wave(seconds: float, rate_hz: int, channels: int = 1) -> torch.Tensor:
    N = int(seconds * rate_hz)
    return 0.3 * torch.randn(1, channels, N, generator=torch.Generator().manual_seed(N))


def spread(book: torch.Tensor, z: torch.Tensor) -> None:
    """Lay a codebook [K, dim] where latents [positions, dim] lie, so that many codes occur."""
    book.copy_(z.mean(0) + z.std(0) * torch.randn_like(book))


def spread_residual(layers: Any, book_of: Callable[[Any], torch.Tensor], z: torch.Tensor) -> None:
    """The same for each layer of residual quantization; z [1, dim, positions]."""
    for layer in layers:
        spread(book_of(layer), z[0].T)
        z = z - layer.decode(layer.encode(z))


def held(name: str, pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
    """Codes and output of ours and theirs, at each length or size.

    Codes count if all before them at their position are equal: where two are equally near to a vector, sums of floats
    in another order decide, and what is left for the codebooks after it differs.
    """
    equal = torch.cat([(ours == theirs).flatten() for *_, ours, theirs in map(_comparable, pairs)])
    apart = max(((made - theirs).abs().max() / theirs.abs().max()).item() for *_, made, theirs in pairs)
    used = max(len(theirs.unique()) for _, theirs, *_ in pairs)
    differ = int((~equal).sum())
    print(f"\n{name}: of {len(equal):,} codes {differ} differ, output apart {apart:.1e}, {used} different codes")
    assert equal.float().mean() >= 0.999 and apart < 1e-4 and used > 20


def _comparable(pair: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of codes [..., codebooks, positions] those whose predecessors at their position are equal."""
    ours, theirs = pair[0], pair[1]
    if ours.dim() != 3:
        return ours, theirs
    follows = torch.cat([torch.ones_like(ours[:, :1]), (ours == theirs).cumprod(1)[:, :-1]], 1).bool()
    return ours[follows], theirs[follows]


def test_encodec() -> None:
    from transformers import EncodecConfig, EncodecModel

    reference = EncodecModel(EncodecConfig()).eval()
    spread_residual(reference.quantizer.layers, lambda layer: layer.codebook.embed, reference.encoder(wave(4, 24_000)))
    net = own("encodec", reference.state_dict(), reference.config.to_dict())
    pairs = []
    for seconds in SECONDS:
        x = wave(seconds, 24_000)
        codes = reference.encode(x, bandwidth=24.0).audio_codes
        pairs.append((net.encode(x), codes[0], net.decode(codes[0]), reference.decode(codes, [None])[0]))
    held("EnCodec 24 kHz", pairs)


def test_encodec_stereo() -> None:
    from transformers import EncodecConfig, EncodecModel

    layout = {"audio_channels": 2, "normalize": True, "norm_type": "time_group_norm", "use_causal_conv": False}
    config = EncodecConfig(
        sampling_rate=48_000, chunk_length_s=1.0, overlap=0.01, target_bandwidths=[3.0, 6.0, 12.0, 24.0], **layout
    )
    reference = EncodecModel(config).eval()
    x = wave(1, 48_000, 2)
    spread_residual(
        reference.quantizer.layers, lambda layer: layer.codebook.embed, reference.encoder(x / x.pow(2).mean().sqrt())
    )
    net = own("encodec_stereo", reference.state_dict(), reference.config.to_dict())
    pairs = []
    for seconds in (*SECONDS, 2.5):
        x = wave(seconds, 48_000, 2)
        coded = reference.encode(x, bandwidth=24.0)
        samples = Samples(x)
        analysis = net.analyse(samples, [])
        codes = torch.cat(list(net.encode_windows(samples, analysis, CPU)), 1)
        theirs = torch.cat(
            [
                part[0, :, :n]
                for part, n in zip(coded.audio_codes, np.diff(net.framing.segments(codes.shape[1])), strict=True)
            ],
            1,
        )
        made = np.concatenate(
            list(
                net.decode_windows(codes[None].numpy(), [analysis.stored], (0, codes.shape[1]), seed=0, progress=silent)
            ),
            1,
        )
        sound = reference.decode(
            coded.audio_codes, coded.audio_scales, last_frame_pad_length=coded.last_frame_pad_length
        )[0][0]
        N = x.shape[2]
        pairs.append((codes, theirs, torch.from_numpy(made[:, :N]), sound[:, :N]))
    held("EnCodec 48 kHz", pairs)


class Samples:
    """Channels as the contract of codecs has them."""

    def __init__(self, wave: torch.Tensor) -> None:
        self.wave = wave[0].numpy()

    def __len__(self) -> int:
        return self.wave.shape[1]

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.wave[:, part]


@pytest.mark.parametrize(
    ("rate_hz", "strides", "codebooks"),
    [(16_000, [2, 4, 5, 8], 12), (24_000, [2, 4, 5, 8], 32), (44_100, [2, 4, 8, 8], 9)],
)
def test_dac(rate_hz: int, strides: list[int], codebooks: int) -> None:
    from transformers import DacConfig, DacModel

    config = DacConfig(downsampling_ratios=strides, n_codebooks=codebooks, sampling_rate=rate_hz)
    reference = DacModel(config).eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            module.reset_parameters()
    lively(reference.quantizer.quantizers, reference.encoder(whole(wave(2, rate_hz), strides)))
    net = own("dac", reference.state_dict(), config.to_dict())
    pairs = []
    for seconds in SECONDS:
        x = whole(wave(seconds, rate_hz), strides)
        codes = reference.encode(x).audio_codes
        sound = reference.decode(audio_codes=codes).audio_values[:, None]
        pairs.append((net.encode(x), codes, net.decode(codes)[..., : sound.shape[2]], sound))
    held(f"DAC {rate_hz} Hz", pairs)


def whole(x: torch.Tensor, strides: list[int]) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[2] % int(np.prod(strides))))


def lively(quantizers: Any, residual: torch.Tensor) -> None:
    for level in quantizers:
        z_e = level.in_proj(residual)[0].T
        spread(level.codebook.weight, z_e)
        residual = residual - level(residual)[0]


@pytest.mark.parametrize("rate_hz", [24_000, 44_100])
def test_snac(rate_hz: int) -> None:
    from snac import SNAC

    config = {
        24_000: {
            **{"encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024, "decoder_rates": [8, 8, 4, 2]},
            **{"attn_window_size": None, "vq_strides": [4, 2, 1]},
        },
        44_100: {
            **{"encoder_dim": 64, "encoder_rates": [2, 3, 8, 8], "decoder_dim": 1536, "decoder_rates": [8, 8, 3, 2]},
            **{"attn_window_size": 32, "vq_strides": [8, 4, 2, 1]},
        },
    }[rate_hz] | {"sampling_rate": rate_hz, "codebook_size": 4096, "codebook_dim": 8, "noise": True, "depthwise": True}
    reference = SNAC(**config).eval()
    residual = reference.encoder(reference.preprocess(wave(2, rate_hz)))
    for level in reference.quantizer.quantizers:
        spread(level.codebook.weight, level.in_proj(torch.nn.functional.avg_pool1d(residual, level.stride))[0].T)
        residual = residual - level(residual)[0]
    net = own("snac", reference.state_dict(), config)
    pairs = []
    for seconds in SECONDS:
        x = wave(seconds, rate_hz)
        rows = reference.encode(x)
        theirs = torch.cat([row.view(1, -1, n).mT for row, n in zip(rows, net.level_codebooks, strict=True)], 1)
        layers = iter(range(99))

        def noise(shape: Any, layers: Iterator[int] = layers, **_: Any) -> torch.Tensor:
            return white_noise(shape[0], 0, shape[2], 5, next(layers))[:, None]

        with patch("snac.layers.torch.randn", noise):
            sound = reference.decode(rows)
        pairs.append((net.encode(x), theirs, net.decode_window(theirs, 0, 5), sound))
    held(f"SNAC {rate_hz} Hz", pairs)


def test_mimi(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import MimiConfig, MimiModel

    reference = MimiModel(MimiConfig()).eval()
    for name, weight in reference.named_parameters():
        if name.endswith("layer_scale.scale"):
            weight.copy_(0.5 + torch.rand_like(weight))
    latents: list[torch.Tensor] = []
    encode = reference.quantizer.encode
    with patch.object(reference.quantizer, "encode", lambda z, *rest: latents.append(z) or encode(z, *rest)):
        reference.encode(wave(8, 24_000))
    for quantizer in (
        reference.quantizer.semantic_residual_vector_quantizer,
        reference.quantizer.acoustic_residual_vector_quantizer,
    ):
        residual = quantizer.input_proj(latents[0])
        for layer in quantizer.layers:
            book = layer.codebook
            vectors = residual[0].T.mean(0) + residual[0].T.std(0) * torch.randn_like(book.embed_sum)
            book.cluster_usage.copy_(1 + torch.rand(len(vectors)))
            book.embed_sum.copy_(vectors * book.cluster_usage[:, None])
            book._embed = None
            residual = residual - layer.decode(layer.encode(residual))
    reference.save_pretrained(tmp_path)  # whose names in files are others than in memory
    net = own("mimi", load_file(tmp_path / "model.safetensors"), reference.config.to_dict())
    pairs = []
    for seconds in (*SECONDS, 25.0):  # beyond the window of attention, 250 positions of 25 Hz
        x = wave(seconds, 24_000)
        codes = reference.encode(x, num_quantizers=32).audio_codes
        pairs.append((net.encode(x), codes, net.decode(codes), reference.decode(codes)[0]))
    held("Mimi", pairs)


def test_wavtokenizer() -> None:
    from transformers import WavTokenizerConfig, WavTokenizerModel

    reference = WavTokenizerModel(WavTokenizerConfig()).eval()
    spread(
        reference.encoder_model.quantizer.codebook.embed,
        reference.encoder_model.encoder(wave(8, 24_000))[0].T,
    )
    net = own("wavtokenizer", reference.state_dict(), reference.config.to_dict())
    pairs = []
    for seconds in SECONDS:
        x = wave(seconds, 24_000)
        codes = reference.encode(x).audio_codes
        pairs.append((net.encode(x), codes, net.decode(codes), reference.decode(codes).audio_values))
    held("WavTokenizer", pairs)


def test_xcodec2() -> None:
    from transformers import Xcodec2Config, Xcodec2Model

    short = {"model_type": "wav2vec2-bert", "num_hidden_layers": 1}  # the half that only encodes
    reference = Xcodec2Model(Xcodec2Config(semantic_model_config=short)).eval()
    net = own("xcodec2", reference.state_dict(), reference.config.to_dict())
    pairs = []
    for P in (20, 50, 333):
        codes = torch.randint(2**16, (1, 1, P))
        pairs.append((codes, codes, net.decode(codes), reference.decode(audio_codes=codes).audio_values))
    held("X-Codec 2 (decoding)", pairs)


DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
VQGANS = {
    "VQGAN f16": {
        **{"down_block_types": (*(DOWN,) * 4, f"Attn{DOWN}"), "up_block_types": (f"Attn{UP}", *(UP,) * 4)},
        **{"block_out_channels": (128, 128, 256, 256, 512), "layers_per_block": 2, "latent_channels": 256},
        "num_vq_embeddings": 1024,
    },
    "VQGAN f8": {
        **{"down_block_types": (*(DOWN,) * 3, f"Attn{DOWN}"), "up_block_types": (f"Attn{UP}", *(UP,) * 3)},
        **{"block_out_channels": (128, 128, 256, 512), "layers_per_block": 2, "latent_channels": 4},
        "num_vq_embeddings": 16_384,
    },
    "VQGAN f4": {
        **{"down_block_types": (DOWN,) * 3, "up_block_types": (UP,) * 3, "block_out_channels": (128, 256, 512)},
        **{"layers_per_block": 2, "latent_channels": 3, "num_vq_embeddings": 8192},
    },
}


@pytest.mark.parametrize("name", VQGANS)
def test_vqgan2d(name: str) -> None:
    from diffusers import VQModel

    reference = VQModel(**VQGANS[name]).eval()
    z = reference.encode(torch.rand(1, 3, 256, 256) * 2 - 1).latents.movedim(1, -1).flatten(0, 2)
    spread(reference.quantize.embedding.weight, z)
    net = own("vqgan2d", reference.state_dict(), dict(reference.config))
    pairs = []
    for height, width in SIDES:
        x = torch.rand(1, 3, height, width) * 2 - 1
        z_e = reference.encode(x).latents
        theirs = reference.quantize(z_e)[2][2].view(1, 1, *z_e.shape[2:])
        z_q = reference.quantize.embedding(theirs[:, 0]).movedim(-1, 1)
        image = reference.decode(z_q, force_not_quantize=True).sample
        pairs.append((net.quantize(net.latents(x)), theirs, net.decode(theirs), image))
    held(name, pairs)


def test_emu3() -> None:
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    reference = Emu3VQVAE(Emu3VQVAEConfig()).eval()
    net = own("emu3", reference.state_dict(), reference.config.to_dict())
    spread(reference.quantize.embedding.weight, net.latents(torch.rand(1, 3, 128, 128) * 2 - 1)[0].flatten(1).T)
    net = own("emu3", reference.state_dict(), reference.config.to_dict())
    pairs = []
    for height, width in SIDES:
        x = torch.rand(1, 3, height, width) * 2 - 1
        theirs = torch.stack(reference.encode(x, image_sizes=[x.shape[2:]]).image_tokens)
        pairs.append(
            (net.quantize(net.latents(x))[:, 0], theirs, net.decode(theirs[:, None]), reference.decode(theirs))
        )
    held("Emu3", pairs)
