"""A short form of the fuzz of readers; tests/README.md has the long one."""

import pytest

from tests import fuzz_data, fuzz_models, fuzzing


@pytest.mark.fault("20 fuzz of readers")
@pytest.mark.parametrize("seed", range(2))
def test_damaged_data_runs_and_recipes(seed):
    cases = fuzz_data.cases()
    tally = fuzzing.fuzz(cases, 150, seed)
    assert tally.total() == 150 and {name for name, _ in tally} == cases.keys()


@pytest.mark.fault("20 fuzz of readers")
def test_damaged_models():
    """Those that load fast; the long form has models of all families and their priors."""
    cases = {
        "model": fuzzing.Case(fuzz_models._changed(fuzz_models.model_file("vqvae2d", "vector")), fuzz_models.use_model)
    }
    tally = fuzzing.fuzz(cases, 80, 0)
    assert tally.total() == 80 and {outcome for _, outcome in tally} >= {"ModelError", "read"}
