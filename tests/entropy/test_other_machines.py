"""The same bytes and codes whatever instructions the processor has and however many threads run."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.entropy.test_prior2d import KINDS, QUALITY, random_codes, tiny_net
from vqcli.entropy import coders, prior2d, statistics
from vqcli.entropy.coders import Given

SIZES = [31, 31, 7, 512]

SCRIPT = """
import sys, zlib
import numpy as np
from vqcli.entropy import coders
from vqcli.entropy.coders import Given
from tests.entropy.test_other_machines import SIZES, example
codes, tables = example()
for name in ("histogram", "adaptive"):
    data = coders.encode(name, codes, Given(SIZES, tables))
    again = coders.decode(name, data, codes.shape, Given(SIZES, tables))
    print(zlib.crc32(data), zlib.crc32(again.astype("<u2").tobytes()))
"""

PRIOR_SCRIPT = """
import sys, zlib
from vqcli.entropy import prior2d as prior
from tests.entropy.test_prior2d import KINDS, QUALITY, random_codes, tiny_net
for kind in KINDS:
    codes, net = random_codes(kind, 150, 90), tiny_net(kind, hidden=96)
    data = prior.encode(codes, QUALITY[kind], net)
    again = prior.decode(data, codes.shape, QUALITY[kind], net)
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
        data = coders.encode(name, codes, Given(SIZES, tables))
        assert np.array_equal(coders.decode(name, data, codes.shape, Given(SIZES, tables)), codes)
        expected.append(f"{zlib.crc32(data)} {zlib.crc32(codes.astype('<u2').tobytes())}")
    assert printed(SCRIPT, environment, tmp_path) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": "numba"},
        {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_NUM_THREADS": "2"},
    ],
    ids=["generic processor", "no AVX", "oldest products", "two threads"],
)
def test_same_bytes_under_the_prior(environment, tmp_path):
    """Matrix products of other instructions and threads sum in another order; the prior's cannot round."""
    expected = []
    for kind in KINDS:
        codes, net = random_codes(kind, 150, 90), tiny_net(kind, hidden=96)
        data = prior2d.encode(codes, QUALITY[kind], net)
        assert np.array_equal(prior2d.decode(data, codes.shape, QUALITY[kind], net), codes)
        expected.append(f"{zlib.crc32(data)} {zlib.crc32(codes.astype('<u2').tobytes())}")
    assert printed(PRIOR_SCRIPT, environment, tmp_path) == expected


def printed(script: str, environment: dict[str, str], folder: Path) -> list[str]:
    """Lines that a script prints in a fresh process."""
    if "NUMBA_CACHE_DIR" in environment:
        environment = {**environment, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
