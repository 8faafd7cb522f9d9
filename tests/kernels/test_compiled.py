"""What is compiled is kept, and made anew when a source changes that it may come from."""

import importlib.util

from vqcli.kernels import compiled as module


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.half


def test_the_compiled_function_follows_the_sources(tmp_path, monkeypatch):
    path = tmp_path / "halves.py"
    path.write_text("def half(x):\n    return x / 2\n")

    def hits(sources: str) -> int:
        monkeypatch.setattr(module, "_digest", lambda: sources)
        function = module.compiled(load(path))
        assert function(3.0) == 1.5
        return sum(function.stats.cache_hits.values())

    assert [hits("one"), hits("one"), hits("other"), hits("other")] == [0, 1, 0, 1]


def test_the_sources_are_those_of_kernels_and_nets():
    assert module._digest() == module._digest() and len(module._digest()) == 64
