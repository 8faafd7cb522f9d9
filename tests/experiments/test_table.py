import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from vqcli import recipe
from vqcli.cli.main import app
from vqcli.container.header import MODEL_NAME
from vqcli.errors import BadFile, UsageError
from vqcli.experiments import figures
from vqcli.experiments.measures import MEASURES
from vqcli.experiments.table import DATA, EXPERIMENTS, find, names
from vqcli.zoo import registry, store

ROOT = Path(__file__).parents[2]
AFTER_THE_CODEC = {  # what a judge needs to be trained after the codec
    "samples": {"pixelcnn"},
    "frames": {"pixelcnn", "frames"},
    "latents": {"twostage2d"},
    "actions": {"frames"},
}
COMMANDS = typer.main.get_command(app)
DOCUMENT = "vqcli/experiments/README.md"
MARKERS = "<!-- experiments -->", "<!-- /experiments -->"
CARD = """# a model

## Experiments

| experiment | measured | command |
|---|---|---|
| `phonemes` | 29.2 % of 38 classes | `vq eval phonemes speech-25hz timit/` |
| `video` | 61 % of 4 actions | `vq eval video doom` |
"""


def parses(line):
    command, words = COMMANDS, shlex.split(line)[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    return command is not COMMANDS and command.make_context(line, words) is not None


def card(folder, text, name="mine"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "README.md").write_text(text)
    return folder / name / "README.md"


def test_names_are_distinct():
    assert len(set(names())) == len(EXPERIMENTS)
    assert all(MODEL_NAME.fullmatch(name) for name in names())


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_what_a_row_names_is_there(experiment):
    assert experiment.paper or experiment.report
    assert all(judge in MEASURES for judge in experiment.measures)
    assert not experiment.measures or experiment.data in DATA
    assert all(store.find(name).name == name for name in experiment.models)
    assert all(map(parses, experiment.commands))
    labels = [variant.label for variant in experiment.variants]
    assert len(set(labels)) == len(labels) and all(MODEL_NAME.fullmatch(f"{label}-prior") for label in labels)
    for variant in experiment.variants:
        assert experiment.measures and not experiment.models and not experiment.commands
        chosen = recipe.override(recipe.load(variant.recipe), variant.settings)
        assert chosen.modality == "image" and chosen.codec is None
        assert chosen.data.size or chosen.data.crop == DATA[experiment.data].side
        registry.build(chosen.model.family, chosen.model.arguments)
        wanted = [AFTER_THE_CODEC[judge] for judge in experiment.measures if judge in AFTER_THE_CODEC]
        assert (variant.prior is not None) == bool(wanted)
        if variant.prior is not None:
            after = recipe.load(variant.prior)
            assert all(after.model.family in families for families in wanted)
            assert after.data.crop == chosen.data.crop


def test_find():
    assert find("cifar10").paper == "4.67"
    with pytest.raises(UsageError, match="no experiment cifr10") as raised:
        find("cifr10")
    assert "cifar10" in raised.value.hint


def test_figures_come_from_cards(tmp_path):
    card(tmp_path, CARD)
    card(tmp_path, CARD.replace("29.2", "31.0").replace("video", "boxing"), "other")
    card(tmp_path, "# one without\n", "plain")
    table = {row.experiment.name: row for row in figures.rows(tmp_path)}
    assert list(table) == list(names())
    assert [one.measured[:6] for one in table["phonemes"].figures] == ["29.2 %", "31.0 %"]
    assert [one.model for one in table["phonemes"].figures] == ["mine", "other"]
    assert table["video"].command == "vq eval video doom" and table["boxing"].figures
    assert table["cifar10"].figures == () and table["cifar10"].command == "vq reproduce cifar10 --data cifar10/"
    assert table["lab-frames"].command == "vq reproduce lab-frames --data doom/"
    assert table["lab-frames"].to_dict()["open"] and not table["video"].to_dict()["open"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("| measured |", "| result |", "no table of experiments"),
        ("|---|---|---|", "|---|---|", "no table of experiments"),
        (CARD[CARD.index("| `phonemes`") :], "", "no table of experiments"),
        ("# a model", "## Experiments", "or two"),
        ("`phonemes`", "phonemes", "line 7: no line"),
        (" | `vq eval video doom`", "", "line 8: no line"),
        ("61 %", "6 | 1 %", "line 8: no line"),
        ("`video`", "`vidio`", "line 8: an unknown name"),
        ("`video`", "`phonemes`", "line 8: a second line"),
        ("doom` |\n", "doom` |\nand more\n", "line 9: no line"),
    ],
)
def test_a_card_is_read_strictly(tmp_path, old, new, says):
    path = card(tmp_path, CARD.replace(old, new, 1))
    with pytest.raises(BadFile, match=says) as raised:
        figures.read(path)
    assert raised.value.hint


def test_what_stands_around_the_section(tmp_path):
    path = card(tmp_path, CARD + "\n## Not good at\n\n| a | table |\n")
    assert len(figures.read(path)) == 2
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadFile, match="cannot read"):
        figures.read(path)


def test_nothing_lacks_its_command():
    assert all(row.command for row in figures.rows(ROOT / "models"))


@pytest.mark.parametrize("row", figures.rows(ROOT / "models"), ids=lambda row: row.experiment.name)
def test_the_shipped_figures(row):
    assert all(parses(figure.command) for figure in row.figures)
    assert not row.command or parses(row.command)
    assert row.figures or not row.experiment.models, "its models ship, so their cards should have its figure"


def test_a_table_of_markdown():
    lines = figures.markdown(figures.rows(ROOT / "models"))
    assert len(lines) == 2 + len(EXPERIMENTS)
    assert {line.count("|") for line in lines} == {8}


def test_the_table_needs_neither_torch_nor_numpy():
    code = "from vqcli.experiments import figures; figures.rows()\nimport sys"
    code += "; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_document_has_the_table():
    begin, end = MARKERS
    document = (ROOT / DOCUMENT).read_text()
    stands = document.partition(f"{begin}\n")[2].partition(f"\n{end}")[0].strip("\n").splitlines()
    # not pytest's own difference of long lines: what to do about it
    same = stands == figures.markdown(figures.rows(ROOT / "models"))
    assert same, f"vq reproduce --markdown prints what {DOCUMENT} should have between {begin} and {end}"
