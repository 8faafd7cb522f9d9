import pytest

from tests.training.conftest import VECTOR, of
from vqcli.data.shapes import Shapes
from vqcli.training.profile import PHASES, REST, profile


@pytest.fixture(scope="module")
def found():
    recipe = of(VECTOR, "optimization.precision=float32", "data.batch=4")
    return profile(recipe, Shapes(count=200), device="cpu", threads=1, steps=4)


def test_shares_of_a_step(found):
    """Every phase is seen, the quantizer within the forward pass, and together they are the whole."""
    assert tuple(found.phases) == (*PHASES, REST)
    assert sum(found.phases.values()) == pytest.approx(1, abs=0.05)
    assert all(found.phases[name] > 0 for name in PHASES)
    assert found.phases["backward"] > found.phases["quantizer"]
    assert found.step_s > 0 and found.steps == 4


def test_operators(found):
    assert any("convolution" in name for name in found.operators)
    shares = list(found.operators.values())
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
