"""Sampling from a Gated PixelCNN against a full forward pass for each code: python tests/bench/pixelcnn_sampling.py

Prints the ratio of the times on one thread. The naive way is timed on a few positions in each round, spread over
the grid, and multiplied: each of its positions costs the same. The ways take turns, so that a busy machine slows
all of them.
"""

import statistics
import time

import numpy as np
import torch

from vqcli.nets.priors import autoregressive, pixelcnn_torch
from vqcli.nets.priors import pixelcnn_numba as compiled
from vqcli.nets.priors.pixelcnn import PixelCNN

# width, layers, grid, batch, rounds, and in each round: positions of the naive way, runs of the others
CASES = [(64, 12, 8, 1, 9, 32, 10), (64, 12, 8, 64, 7, 3, 1), (128, 15, 32, 1, 5, 3, 1)]
K, LABELS = 512, 10


@torch.no_grad()
def naive(net, codes, uniforms, label, positions) -> None:
    """The usual way at some positions: all logits anew, one of them used."""
    for i, j in positions:
        logits = net(codes, label)[:, 0, :, i, j]
        codes[:, 0, i, j] = autoregressive.sample_codes(logits, uniforms[:, 0, i, j], autoregressive.AS_LEARNED)


def seconds(runs: int, function, *arguments) -> float:
    """Of one run."""
    begun = time.perf_counter()
    for _ in range(runs):
        function(*arguments)
    return (time.perf_counter() - begun) / runs


def measure(width: int, layers: int, side: int, batch: int, rounds: int, count: int, runs: int) -> None:
    net = PixelCNN([K], width, layers, labels=LABELS).eval()
    compiled_net = compiled.compile_net(net)
    rng = np.random.default_rng(0)
    uniforms = rng.random((batch, 1, side, side))
    codes, keep = np.zeros(uniforms.shape, np.int64), np.zeros(uniforms.shape, bool)
    label = rng.integers(LABELS, size=batch)
    tensors = torch.from_numpy(codes.copy()), torch.from_numpy(uniforms), torch.from_numpy(label)
    compiled.sample(compiled_net, codes, keep, uniforms, label)  # compiles
    times = []
    for _ in range(rounds):
        positions = [divmod(place, side) for place in rng.choice(side * side, count)]
        slow = seconds(1, naive, net, *tensors, positions) / count * side * side
        fast = seconds(runs, compiled.sample, compiled_net, codes, keep, uniforms, label)
        steps = seconds(1, pixelcnn_torch.sample, net, codes, keep, uniforms, label)
        times.append((slow, fast, steps))
    print(f"{width} x {layers}, K = {K}, {side} x {side}, batch {batch}: {rounds} rounds")
    print(f"  naive: {statistics.median(t[0] for t in times):.2f} s, from {count} positions in each round")
    for name, way in (("compiled", 1), ("torch", 2)):
        ratios = [t[0] / t[way] for t in times]
        middle, took = statistics.median(ratios), statistics.median(t[way] for t in times)
        print(f"  {name}: {took:.4f} s, {middle:.0f} times (worst {min(ratios):.0f}, best {max(ratios):.0f})")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for case in CASES:
        measure(*case)


main()
