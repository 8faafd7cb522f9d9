"""The house stays as it is drawn: layers, file lengths, lazy imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vqcli"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lower never imports higher; modules of one layer may import each other.
LAYERS = (
    ("errors", "files", "progress"),
    ("recipe", "container"),
    ("media", "entropy"),
    ("nets",),
    ("zoo", "data"),
    (
        "batch",
        "api",
        "codec",
        "evaluation",
        "experiments",
        "sampling",
        "training",
    ),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
WITHOUT_TORCH = ("container", "errors", "files", "recipe", "media", "entropy", "batch")
# of evaluation
NUMBERS_ONLY = ("metrics", "baselines", "h264", "spectrograms", "evaluators")


def imported_modules(path: Path) -> set[str]:
    """Every module of the package that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from vqcli import zoo` names a module, `from vqcli.zoo import load` something inside one
            found |= {f"vqcli.{alias.name}" for alias in node.names} if node.module == "vqcli" else {node.module}
    return found


def unit(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_lower_layers_do_not_import_higher_ones(path):
    if unit(path) in ("__init__", "__main__"):
        return
    for module in imported_modules(path):
        if module.startswith("vqcli.") and module.split(".")[1] in RANK:
            assert RANK[module.split(".")[1]] <= RANK[unit(path)], f"{path} imports {module}"


def test_every_module_has_its_layer():
    units = {unit(path) for path in FILES} - {"__init__", "__main__"}
    assert units == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if unit(path) in WITHOUT_TORCH or path.stem in NUMBERS_ONLY],
    ids=lambda path: path.stem,
)
def test_lower_layers_do_without_torch(path):
    assert not any(module.split(".")[0] == "torch" for module in imported_modules(path))


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
