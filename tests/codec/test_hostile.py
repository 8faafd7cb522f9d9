"""Files with sound checksums that make no sense: decoding ends in one line, or in media of the size they declare."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzz_decode
from tests.sampling.test_speech import make_model
from vqcli import api
from vqcli.errors import BadFile

pytestmark = [
    pytest.mark.fault("20 mutated files through the whole decoder"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # which would hide what went wrong
]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def samples(scalar_model, vector_model, picture, tmp_path_factory) -> fuzz_decode.Samples:
    """Tiny models of images and of speech with a valid file for each coder, without loss, and of a clip."""
    found = {}
    for model in (scalar_model, vector_model):
        for coder in ("packed", "histogram", "adaptive"):
            found[f"{model.info.name} {coder}"] = model, api.encode(picture(40, 33), model, coder=coder).data
        found[f"{model.info.name} lossless"] = model, api.encode(picture(24, 20), model, lossless=True).data
        found[f"{model.info.name} clip"] = model, api.encode(np.stack([picture(20, 24)] * 3), model).data
    speech = make_model(tmp_path_factory.mktemp("speech"))
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    found["speech"] = speech, api.encode(noise, speech, rate_hz=16_000, mono=False).data
    return found


@given(seed=SEEDS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_decoding_ends_well(samples, seed: int) -> None:
    fuzz_decode.fuzz(samples, 1, seed)


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_command_says_one_line(samples, tmp_path_factory, seed: int) -> None:
    from typer.testing import CliRunner

    from vqcli.cli.main import app

    source = fuzz_decode.random.Random(seed)
    model, data = samples[source.choice(sorted(samples))]
    try:
        data = fuzz_decode.damaged(model, data, source)
    except BadFile:
        return
    folder: Path = tmp_path_factory.mktemp("hostile")
    (folder / "a.vqz").write_bytes(data)
    limits = ("--max-pixels", "100000", "--max-seconds", "10")
    ran = CliRunner().invoke(app, ["decode", f"{folder}/a.vqz", "--model", str(model.info.folder), *limits])
    assert ran.exit_code in (0, 2, 3, 4), (ran.exception, data.hex())
    assert ran.exit_code == 0 or ran.stderr.count("vq: ") == 1
    assert len(list(folder.iterdir())) == 1 + (ran.exit_code == 0)
