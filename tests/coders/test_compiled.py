import pytest

from vqcli.coders import compiled


def test_without_a_place_for_the_cache(monkeypatch):
    """A read-only installation compiles anew instead of failing."""
    real = compiled.njit

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(compiled, "njit", njit)

    @compiled.compiled
    def twice(x):
        return 2 * x

    assert twice(21) == 42
    with pytest.raises(TypeError):
        twice()
