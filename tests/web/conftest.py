"""A server with tiny models."""

from importlib.util import find_spec

import pytest

if not (find_spec("starlette") and find_spec("uvicorn")):  # the extra web
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def library(scalar_model, vector_model):
    from vqcli.web.library import Library

    return Library("cpu", (scalar_model.info, vector_model.info))


@pytest.fixture(scope="module")
def client(library):
    from tests.explorer import served
    from vqcli.container.bounds import Limits

    limits = Limits(pixels=20_000, seconds=5.0)
    with served(library, most_upload=200_000, most_waiting=3, limits=limits) as made:
        yield made


@pytest.fixture(scope="session")
def photo(picture):
    """A PNG file of 48 x 64 pixels."""
    from io import BytesIO

    from vqcli.media import image

    image.write(stream := BytesIO(), picture(48, 64), format="png")
    return stream.getvalue()
