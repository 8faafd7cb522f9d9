"""vq doctor: what it says is so, and it says what is broken."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.data import pitch_cache
from vqcli.evaluation import installation
from vqcli.zoo import store

ROOT = Path(__file__).parent.parent.parent


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", "--no-speed", *arguments])


def test_facts():
    result = run("--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["machine"]["vq"] == vqcli.__version__ and "cpu" in facts["machine"]["devices"]
    assert facts["packages"]["torch"] == facts["machine"]["torch"]
    assert {model["name"]: model["digest"] for model in facts["models"]} == {
        info.name: info.digest.hex() for info in store.list_models()
    }
    assert not any(folder["trouble"] for folder in facts["folders"]) and facts["speeds"] == []


def test_every_extra_is_explained():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(installation.EXTRAS) == set(declared) - {"dev"}
    missing = {extra.name: extra.missing for extra in installation.extras()}
    assert missing["report"] == ()  # matplotlib is there for these tests


def test_home_is_not_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    text = run().stdout
    assert str(Path("~") / store.user_folder().relative_to(tmp_path)) in text and str(tmp_path) not in text


@pytest.mark.parametrize("damage", [b"", b"junk" * 10, None])
def test_a_broken_model_is_named(monkeypatch, tmp_path, damage):
    folder = tmp_path / "broken"
    folder.mkdir()
    whole = (store.find("fashion-mnist").path).read_bytes()
    (folder / store.FILE).write_bytes(whole[:-1000] if damage is None else damage)
    monkeypatch.setenv("VQ_MODELS", str(tmp_path))
    result = run()
    assert result.exit_code == 1
    assert re.search(r"broken +–", result.stdout) and "vq: " in result.stderr and "broken" in result.stderr


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(pitch_cache, "folder", lambda: tmp_path / "file" / "pitch")
    result = run()
    assert result.exit_code == 1 and "Not a directory" in result.stderr


def test_speed():
    rows = installation.speeds(0.0, lambda share, note: None)
    assert [row.what for row in rows] == ["encode an image", "decode an image", "encode speech", "decode speech"]
    assert all(row.value > 0 for row in rows)
