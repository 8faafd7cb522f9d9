"""The house stays as it is drawn: layers, file lengths, lazy imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vqcli"
FILES = sorted(PACKAGE.rglob("*.py"))

# A folder or module imports only what stands above it here: one layer each, in strict order.
LAYERS = (
    *("errors", "progress", "deprecation", "files", "pickles", "recipe", "batch"),
    *("container", "media", "entropy", "data"),
    *("nets.kernels", "nets.layers", "nets.priors", "nets.wavenet", "nets.codecs"),
    *("zoo", "codec", "sampling", "api"),
    *("evaluation", "evaluation.speech", "evaluation.image", "evaluation.video"),
    *("pages", "web", "tokens", "training", "experiments", "cli"),
)
RANK = {name: rank for rank, name in enumerate(LAYERS)}
WITHOUT_TORCH = ("container", "errors", "files", "pickles", "progress", "recipe", "media", "entropy", "batch")
# of evaluation
NUMBERS_ONLY = ("metrics", "baselines", "h264", "spectrograms", "evaluators")


def name_of(path: Path) -> str:
    """A file as a module, without `vqcli.` and `.__init__`: codec.image, codec."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES if path.stem != "__init__" or path.read_text().strip()}


def imported_names(path: Path) -> set[str]:
    """Every name of a module that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from vqcli import api` names a module, `from vqcli.api import encode` something inside one
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def imported_modules(path: Path) -> set[str]:
    """Those of the package."""
    found = {name.removeprefix("vqcli.") for name in imported_names(path) if name.startswith("vqcli.")}
    return {name for name in found if name in MODULES} - {name_of(path)}


def layer(module: str) -> str:
    """The deepest entry of LAYERS that a module belongs to."""
    parts = module.split(".")
    return next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_lower_layers_do_not_import_higher_ones(path):
    if name_of(path) in ("__init__", "__main__") or name_of(path) not in MODULES:
        return
    own = layer(name_of(path))
    for module in imported_modules(path):
        if layer(module) != own:
            assert RANK[layer(module)] < RANK[own], f"{name_of(path)} imports {module}"


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported_modules(path) for name, path in MODULES.items()}
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    assert not left, "these import each other, or what does"


def test_every_module_has_its_layer():
    assert {layer(name) for name in MODULES if name not in ("__init__", "__main__")} == set(LAYERS)


def test_the_top_is_small():
    assert len(list(PACKAGE.glob("*.py"))) <= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


# kernels and constructors whose arguments are data in headers, and say in their docstrings why they are as they are
LONG = {"_code", "_tile"}
WIDE = {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_functions_are_short_and_take_few_arguments(path):
    """At most 60 lines without the docstring, and 10 arguments without self."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        documented = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
        lines = node.end_lineno - node.lineno + 1 - documented
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        assert lines <= 60 or node.name in LONG, f"{node.name} has {lines} lines"
        assert count <= 10 or node.name in WIDE, f"{node.name} takes {count} arguments"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in FILES
        if name_of(path).split(".")[0] in WITHOUT_TORCH
        or (path.is_relative_to(PACKAGE / "evaluation") and path.stem in NUMBERS_ONLY)
    ],
    ids=lambda path: path.stem,
)
def test_lower_layers_do_without_torch(path):
    assert not any(module.split(".")[0] == "torch" for module in imported_names(path))


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after `code`."""
    heavy = "{'torch', 'numba', 'numpy', 'PIL', 'soundfile'}"
    script = f"import sys\n{code}\nprint(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_help_loads_nothing_heavy():
    code = "from vqcli.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert loaded_by(code) == set()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import vqcli") == set()


def test_info_does_without_torch():
    path = Path(__file__).parent / "golden" / "photo.vqz"
    code = f"from vqcli.cli.main import app\ntry: app(['info', {str(path)!r}])\nexcept SystemExit: pass"
    assert not loaded_by(code) & {"torch", "numba"}
