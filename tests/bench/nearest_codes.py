"""Nearest-code search against the usual broadcast: python tests/bench/nearest_codes.py

Prints the ratio of the times, measured in turns in one run, and the extra memory each takes at its peak.
"""

import statistics
import time

import torch

from vqcli.nets.layers.quantizer import nearest_codes

ROWS, K, D, ROUNDS = 8192, 512, 64, 15


def broadcast(rows: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """The way of most code: all differences at once."""
    return (rows[:, None] - codebook[None]).square().sum(2).argmin(1)


def seconds(search, rows, codebook) -> float:
    begun = time.perf_counter()
    search(rows, codebook)
    return time.perf_counter() - begun


def peak_bytes(search, rows, codebook) -> int:
    """The largest sum of what is allocated and not yet freed, from the profiler's record of the allocator."""
    with torch.profiler.profile(profile_memory=True) as profiler:
        search(rows, codebook)
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows, codebook = torch.randn(ROWS, D), torch.randn(K, D)
    assert torch.equal(nearest_codes(rows, codebook), broadcast(rows, codebook))
    ratios = [seconds(broadcast, rows, codebook) / seconds(nearest_codes, rows, codebook) for _ in range(ROUNDS)]
    print(f"N = {ROWS}, K = {K}, D = {D}, one thread, {ROUNDS} rounds")
    median = statistics.median(ratios)
    print(f"ratio: {median:.0f} times the broadcast (worst {min(ratios):.0f}, best {max(ratios):.0f})")
    for search in (nearest_codes, broadcast):
        print(f"peak memory of {search.__name__}: {peak_bytes(search, rows, codebook) / 2**20:.1f} MiB")


main()
