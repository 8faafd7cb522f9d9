"""The same bytes and codes whatever instructions the processor has and however many threads run."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from vqcli import coders
from vqcli.coders import statistics

SIZES = [31, 31, 7, 512]

SCRIPT = """
import sys, zlib
import numpy as np
from vqcli import coders
from tests.coders.test_other_machines import SIZES, example
codes, tables = example()
for name in ("histogram", "adaptive"):
    data = coders.encode(name, codes, SIZES, tables)
    again = coders.decode(name, data, codes.shape, SIZES, tables)
    print(zlib.crc32(data), zlib.crc32(again.astype("<u2").tobytes()))
"""


def example():
    """Codes that lean on their neighbours, and tables with weights of every kind, from integers alone."""
    draw = np.random.Generator(np.random.PCG64(1))
    steps = draw.integers(-2, 3, (4, 24, 40)).cumsum(2)
    codes = np.stack([(plane + K // 2) % K for plane, K in zip(steps, SIZES, strict=True)]).astype(np.int32)
    weights = {
        "mean": np.array([[40, 20, 0, 4]] * 4),
        "own": np.array([[30, 20, 10, 5]] * 4),
        "earlier": np.tril(np.full((4, 4), 9), -1),
    }
    return codes, statistics.fit([codes], SIZES, weights=weights, energies=6)


@pytest.mark.parametrize(
    "environment",
    [
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": "numba"},
        {"NUMBA_OPT": "0", "NUMBA_CACHE_DIR": "numba"},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "2"},
    ],
    ids=["generic processor", "unoptimised", "plain torch"],
)
def test_same_bytes(environment, tmp_path):
    codes, tables = example()
    expected = []
    for name in ("histogram", "adaptive"):
        data = coders.encode(name, codes, SIZES, tables)
        assert np.array_equal(coders.decode(name, data, codes.shape, SIZES, tables), codes)
        expected.append(f"{zlib.crc32(data)} {zlib.crc32(codes.astype('<u2').tobytes())}")
    if "NUMBA_CACHE_DIR" in environment:
        environment = {**environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == expected
