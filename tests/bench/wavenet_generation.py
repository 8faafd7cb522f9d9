"""Generation by a WaveNet against torch queues and a full forward pass: python tests/bench/wavenet_generation.py

Prints ratios of the times on one thread, for a sample of each item of a batch. The full way computes the logits of
all that the net can look back to, for one sample. The ways take turns, so that a busy machine slows all of them.
"""

import statistics
import time
from functools import partial

import numpy as np
import torch

from vqcli.nets.priors.autoregressive import AS_LEARNED, sample_codes
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet import decoder_torch as queues
from vqcli.nets.wavenet.decoder import WaveNetDecoder

# residual, skip, cycles, layers in each; the first is that of the targets, the second that of `speech-wavenet`
SIZES = [(64, 128, 2, 10), (32, 128, 2, 9)]
BATCHES = [1, 8]
ROUNDS = 7
LATENT_DIM, RATE_HZ = 64, 16_000
LATENTS = {"full": 1, "queues": 2, "float32": 20, "float16": 20}  # that each way goes through in a round


@torch.no_grad()
def full(net: WaveNetDecoder, z_q: torch.Tensor, speaker: torch.Tensor, uniforms: np.ndarray) -> None:
    """The usual way, for one sample of each item."""
    samples = torch.full((len(z_q), z_q.shape[2] * net.stride), 128)
    sample_codes(net(z_q, speaker, samples)[:, :, -1], torch.from_numpy(uniforms[:, 0]), AS_LEARNED)


def seconds(function) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(residual: int, skip: int, cycles: int, layers: int, batch: int) -> None:
    net = WaveNetDecoder(LATENT_DIM, 10, residual, skip, cycles, layers).eval()
    rng = np.random.default_rng(0)
    speaker = torch.arange(batch) % 10
    seen = torch.randn(batch, LATENT_DIM, -(-(net.stack.reach + 1) // net.stride))
    local = {way: torch.randn(batch, LATENT_DIM, count) for way, count in LATENTS.items()}
    uniforms = {way: rng.random((batch, count * net.stride)) for way, count in LATENTS.items()}
    ways = {"full": partial(full, net, seen, speaker, uniforms["full"])}
    nets = {
        "queues": net,
        "float32": compiled.compile_net(net, half=False),
        "float16": compiled.compile_net(net, half=True),
    }
    for way, one in nets.items():
        module = queues if way == "queues" else compiled
        ways[way] = partial(module.sample, one, local[way], speaker, uniforms[way])
    samples = {way: 1 if way == "full" else uniforms[way].shape[1] for way in ways}
    for function in ways.values():
        function()  # compiles
    times = [{way: seconds(function) / samples[way] for way, function in ways.items()} for _ in range(ROUNDS)]
    print(f"residual {residual}, skip {skip}, {cycles * layers} layers, batch {batch}: {ROUNDS} rounds")
    for way in ways:
        took = statistics.median(time[way] for time in times)
        line = f"  {way:8} {1e6 * took:9.1f} us a step, real-time factor {batch / took / RATE_HZ:7.4f}"
        for other in ("full", "queues"):
            ratios = sorted(time[other] / time[way] for time in times)
            if way.startswith("float"):
                line += f"; {statistics.median(ratios):5.1f} times {other} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(line)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for size in SIZES:
        for batch in BATCHES:
            measure(*size, batch)


main()
