"""What is compiled is kept, and made anew when a source changes that it may come from."""

import importlib.util

import pytest

from vqcli.entropy import jit


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.half


def test_the_compiled_function_follows_the_sources(tmp_path, monkeypatch):
    path = tmp_path / "halves.py"
    path.write_text("def half(x):\n    return x / 2\n")

    def hits(sources: str) -> int:
        monkeypatch.setattr(jit, "_digest", lambda: sources)
        function = jit.compiled(load(path))
        assert function(3.0) == 1.5
        return sum(function.stats.cache_hits.values())

    assert [hits("one"), hits("one"), hits("other"), hits("other")] == [0, 1, 0, 1]


def test_the_sources_have_a_digest():
    assert jit._digest() == jit._digest() and len(jit._digest()) == 64


def test_without_a_place_for_the_cache(monkeypatch):
    """A read-only installation compiles anew instead of failing."""
    real = jit.njit

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(jit, "njit", njit)

    @jit.compiled
    def twice(x):
        return 2 * x

    assert twice(21) == 42
    with pytest.raises(TypeError):
        twice()
