import pytest

from vqcli import recipe
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.zoo import registry

TINY = b"""
description = "tiny"
modality = "image"
[model]
family = "vqvae2d"
[model.arguments]
widths = [16, 32]
quantizer = { kind = "vector", K = 16 }
"""


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_build(name):
    loaded = recipe.load(name)
    assert (recipe.SHIPPED / f"{name}.toml").read_text().count("\n") <= 40
    if loaded.codec is None and loaded.model.family:  # one without takes the net that it goes on with
        strides = {"image": (4, 8), "audio": (64, 128, 320, 640)}[loaded.modality]
        assert registry.build(loaded.model.family, loaded.model.arguments).stride in strides


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_survives_its_file(name):
    loaded = recipe.load(name)
    assert recipe.parse(loaded.to_toml(), "again") == loaded


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (TINY + b"[unknown]\n", "unknown"),
        (TINY + b'[data]\ncrop = "large"\n', "crop"),
        (TINY + b"[data]\nbatch = 0\n", "batch"),
        (b"= nonsense", "not a recipe"),
        (b"\xff", "not a recipe"),
    ],
)
def test_wrong_recipes(wrong, says):
    with pytest.raises(BadFile, match=says):
        recipe.parse(wrong, "mine.toml")


def test_unknown_names():
    with pytest.raises(UsageError, match="no recipe foto") as raised:
        recipe.load("foto")
    assert "photo" in raised.value.hint
    with pytest.raises(BadFile, match=r"mine\.toml") as misspelt:
        recipe.parse(TINY + b"[optimization]\nstpes = 3\n", "mine.toml")
    assert "steps" in misspelt.value.hint
    with pytest.raises(ModelError, match="arguments do not make"):
        registry.build("vqvae2d", {"wdths": [8]})


def test_settings():
    before = recipe.parse(TINY, "tiny")
    after = recipe.override(
        before,
        [
            "optimization.steps=12",
            "model.arguments.quantizer.K = 8",
            "rate.balance=0.5",
            "codec=tokens",
            "data.size=64",
        ],
    )
    assert after.optimization.steps == 12 and before.optimization.steps != 12
    assert after.model.arguments["quantizer"] == {"kind": "vector", "K": 8}
    assert after.rate is not None and after.rate.balance == 0.5
    assert after.codec == "tokens" and after.data.size == 64


@pytest.mark.parametrize(
    ("setting", "says", "hint"),
    [
        ("optimization.stpes=3", "optimization.stpes=3.*unknown field `stpes`", "steps"),
        ("optimisation.steps=3", "unknown field", "optimization"),
        ("data.batch=many", "Expected `int`", ""),
        ("data.batch=0", ">= 1", ""),
        ("data=3", "Expected `object`", ""),
        ("description.text=3", "description is a value", ""),
        ("data.batch", "is no setting", "optimization.steps=1000"),
        (".=1", "is no setting", ""),
    ],
)
def test_wrong_settings(setting, says, hint):
    with pytest.raises(UsageError, match=says) as raised:
        recipe.override(recipe.parse(TINY, "tiny"), [setting])
    assert hint in raised.value.hint


@pytest.mark.fault("18 hostile recipes")
def test_what_is_nested_too_deeply():
    with pytest.raises(BadFile, match="nested too deeply"):
        recipe.parse(b"a = " + b"[" * 100_000, "deep.toml")
    with pytest.raises(UsageError):
        recipe.override(recipe.load("tokens"), ["optimization.steps=" + "[" * 100_000])
