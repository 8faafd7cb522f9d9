"""`pytest --regen` writes the golden files anew; look at the difference before keeping it."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture
def regen(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--regen")
