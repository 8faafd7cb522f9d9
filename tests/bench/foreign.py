"""Other people's codecs beside the libraries that they come from: seconds to encode and decode, and their ratio.

    python tests/bench/foreign.py [FAMILY ...] [--seconds 10] [--side 256]

Nets of the released sizes with random weights, the same in both, on one thread. Needs transformers, diffusers
and snac (extra `dev`). A ratio above 1 means that vq is faster.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.utils import parametrize

from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.zoo import registry

REPEATS = 3  # the fastest counts


def folded(net: torch.nn.Module) -> torch.nn.Module:
    """As loading.py runs it."""
    for module in net.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return net.eval()


def own(family: str, reference: torch.nn.Module, config: dict) -> torch.nn.Module:
    found = registry.importers()[family](Checkpoint(as_saved(reference), config))
    net = registry.build(family, found.arguments)
    net.load_state_dict(found.tensors)
    return folded(net)


def as_saved(reference: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors by their names in files, which with some libraries are others than in memory."""
    if not hasattr(reference, "save_pretrained"):
        return reference.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        (file,) = Path(folder).glob("*.safetensors")
        return load_file(file)


def encodec(seconds: float, side: int) -> tuple:
    from transformers import EncodecModel

    reference = EncodecModel(EncodecModel.config_class()).eval()
    net, wave = own("encodec", reference, reference.config.to_dict()), 0.1 * torch.randn(1, 1, int(24_000 * seconds))
    codes = net.encode(wave)
    return (
        (lambda: reference.encode(wave, bandwidth=24.0), lambda: net.encode(wave)),
        (lambda: reference.decode(codes[None], [None]), lambda: net.decode(codes)),
    )


def encodec_stereo(seconds: float, side: int) -> tuple:
    from transformers import EncodecConfig, EncodecModel

    layout = {"audio_channels": 2, "normalize": True, "norm_type": "time_group_norm", "use_causal_conv": False}
    rates = {
        "sampling_rate": 48_000,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
    }
    reference = EncodecModel(EncodecConfig(**layout, **rates)).eval()
    net = own("encodec_stereo", reference, reference.config.to_dict())
    wave = 0.1 * torch.randn(1, 2, 48_000)  # a segment, of which as many are a batch of vq's as fit
    waves, scales = wave.expand(int(seconds), -1, -1), torch.ones(int(seconds))
    whole = waves.transpose(0, 1).reshape(1, 2, -1)
    coded = reference.encode(whole, bandwidth=24.0)
    codes = net.encode_segments(waves, scales)
    tail = coded.last_frame_pad_length
    return (
        (lambda: reference.encode(whole, bandwidth=24.0), lambda: net.encode_segments(waves, scales)),
        (
            lambda: reference.decode(coded.audio_codes, coded.audio_scales, last_frame_pad_length=tail),
            lambda: net.decode_segments(codes, scales),
        ),
    )


def snac(seconds: float, side: int) -> tuple:
    from snac import SNAC

    widths = {"sampling_rate": 24_000, "encoder_dim": 48, "decoder_dim": 1024, "codebook_size": 4096, "codebook_dim": 8}
    strides = {"encoder_rates": [2, 4, 8, 8], "decoder_rates": [8, 8, 4, 2], "vq_strides": [4, 2, 1]}
    config = {**widths, **strides, "attn_window_size": None, "noise": True, "depthwise": True}
    reference = SNAC(**config).eval()
    net, wave = own("snac", reference, config), 0.1 * torch.randn(1, 1, int(24_000 * seconds))
    rows, codes = reference.encode(wave), net.encode(wave)
    return (
        (lambda: reference.encode(wave), lambda: net.encode(wave)),
        (lambda: reference.decode(rows), lambda: net.decode(codes)),
    )


def mimi(seconds: float, side: int) -> tuple:
    from transformers import MimiModel

    reference = MimiModel(MimiModel.config_class()).eval()
    net, wave = own("mimi", reference, reference.config.to_dict()), 0.1 * torch.randn(1, 1, int(24_000 * seconds))
    codes = net.encode(wave)
    return (
        (lambda: reference.encode(wave, num_quantizers=32), lambda: net.encode(wave)),
        (lambda: reference.decode(codes), lambda: net.decode(codes)),
    )


def dac(seconds: float, side: int) -> tuple:
    from transformers import DacConfig, DacModel

    config = DacConfig(downsampling_ratios=[2, 4, 5, 8], n_codebooks=32, sampling_rate=24_000)
    reference = DacModel(config).eval()
    net, wave = own("dac", reference, config.to_dict()), 0.1 * torch.randn(1, 1, int(24_000 * seconds) // 320 * 320)
    codes = net.encode(wave)
    return (
        (lambda: reference.encode(wave), lambda: net.encode(wave)),
        (lambda: reference.decode(audio_codes=codes), lambda: net.decode(codes)),
    )


def wavtokenizer(seconds: float, side: int) -> tuple:
    from transformers import WavTokenizerConfig, WavTokenizerModel

    reference = WavTokenizerModel(WavTokenizerConfig()).eval()
    net = own("wavtokenizer", reference, reference.config.to_dict())
    wave, codes = 0.1 * torch.randn(1, 1, int(24_000 * seconds)), torch.randint(4096, (1, 1, int(40 * seconds)))
    return (
        (lambda: reference.encode(wave), lambda: net.encode(wave)),
        (lambda: reference.decode(codes), lambda: net.decode(codes)),
    )


def vqgan2d(seconds: float, side: int) -> tuple:
    from diffusers import VQModel

    reference = VQModel(
        down_block_types=["DownEncoderBlock2D"] * 4 + ["AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 128, 256, 256, 512],
        layers_per_block=2,
        latent_channels=256,
        num_vq_embeddings=1024,
    ).eval()
    net, x = own("vqgan2d", reference, dict(reference.config)), 2 * torch.rand(1, 3, side, side) - 1
    codes = net.quantize(net.latents(x))
    z_q = reference.quantize.embedding(codes[:, 0]).movedim(-1, 1)
    return (
        (lambda: reference.quantize(reference.encode(x).latents), lambda: net.quantize(net.latents(x))),
        (lambda: reference.decode(z_q, force_not_quantize=True), lambda: net.decode(codes)),
    )


FAMILIES = {each.__name__: each for each in (encodec, encodec_stereo, dac, snac, mimi, wavtokenizer, vqgan2d)}


def fastest(*works: Callable[[], object]) -> list[float]:
    """Seconds of each, by turns, so that a slow moment of the machine strikes all."""
    best = [float("inf")] * len(works)
    for _ in range(REPEATS):
        for number, work in enumerate(works):
            begun = time.perf_counter()
            work()
            best[number] = min(best[number], time.perf_counter() - begun)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all without one")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'family':14}{'':8}{'library s':>10}{'vq s':>8}{'ratio':>7}")
    with torch.inference_mode(), contextlib.suppress(KeyboardInterrupt):
        for name in options.families or FAMILIES:
            for task, works in zip(("encode", "decode"), FAMILIES[name](options.seconds, options.side), strict=True):
                theirs, ours = fastest(*works)
                print(f"{name:14}{task:8}{theirs:10.2f}{ours:8.2f}{theirs / ours:7.2f}", flush=True)


if __name__ == "__main__":
    main()
