"""What is compiled is kept, and made anew when a source changes that it may come from."""

import importlib.util

import pytest

from vqcli.coders import compiled


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.half


def test_the_compiled_function_follows_the_sources(tmp_path, monkeypatch):
    path = tmp_path / "halves.py"
    path.write_text("def half(x):\n    return x / 2\n")

    def hits(sources: str) -> int:
        monkeypatch.setattr(compiled, "_digest", lambda: sources)
        function = compiled.compiled(load(path))
        assert function(3.0) == 1.5
        return sum(function.stats.cache_hits.values())

    assert [hits("one"), hits("one"), hits("other"), hits("other")] == [0, 1, 0, 1]


def test_the_sources_have_a_digest():
    assert compiled._digest() == compiled._digest() and len(compiled._digest()) == 64


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
