"""Damage to checkpoints is noticed, and the run goes on from the one before."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tests.training.conftest import VECTOR, of, train
from vqcli import recipe as recipes
from vqcli.errors import BadFile, UsageError
from vqcli.training import checkpoint, lock, log, run, sealed

FILES = (checkpoint.NAME, checkpoint.PREVIOUS, checkpoint.BEST)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of four steps that has both its checkpoints: of step 2 and of step 4."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    settings = ("optimization.validate_every=2", "model.arguments.widths=[4, 4]", "data.batch=4")
    train(of(VECTOR, "optimization.steps=2", *settings), folder)
    train(of(VECTOR, "optimization.steps=4", *settings), folder, resume=True)
    return folder


@pytest.fixture
def folder(begun, tmp_path):
    return Path(shutil.copytree(begun, tmp_path / "run"))


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def without_checksum(path: Path) -> None:
    """The file as versions before checksums wrote it."""
    tensors, metadata = sealed.read(path)
    path.write_bytes(save(tensors, {name: json.dumps(value) for name, value in metadata.items()}))


@pytest.mark.fault("11 checkpoints that rot")
@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_noticed(folder, name):
    data = (folder / name).read_bytes()
    header_bits = 8 * (8 + int.from_bytes(data[:8], "little"))
    source = random.Random(0)
    bits = [source.randrange(header_bits) for _ in range(60)] + [source.randrange(8 * len(data)) for _ in range(60)]
    for bit in bits:
        (folder / name).write_bytes(flipped(data, bit))
        with pytest.raises((ValueError, OSError)):
            sealed.verify(folder / name)
    (folder / name).write_bytes(data)
    sealed.verify(folder / name)


@pytest.mark.fault("11 checkpoints that rot")
@pytest.mark.parametrize("damage", ["flipped", "cut off", "empty", "missing"])
def test_a_run_goes_on_from_the_checkpoint_before(folder, damage):
    path = folder / checkpoint.NAME
    data = path.read_bytes()
    assert checkpoint.last(folder).counters["step"] == 4
    if damage == "missing":  # as a kill between the two renames leaves it
        path.unlink()
    else:
        path.write_bytes({"flipped": flipped(data, 8 * len(data) - 9), "cut off": data[:900], "empty": b""}[damage])
    found = checkpoint.last(folder)
    assert found.counters["step"] == 2
    if damage != "missing":
        assert (
            found.remarks[0].startswith(str(path)) and "goes on from previous.safetensors, step 2" in found.remarks[0]
        )
    previous = (folder / checkpoint.PREVIOUS).read_bytes()
    _, state = train(
        recipes.override(recipes.from_dict(found.recipe, "test"), ["optimization.steps=4"]), folder, resume=True
    )
    assert state.step == 4
    # the damaged one did not take the place of the sound one
    assert (folder / checkpoint.PREVIOUS).read_bytes() == previous
    assert checkpoint.last(folder).counters["step"] == 4 and not checkpoint.last(folder).remarks


@pytest.mark.fault("11 checkpoints that rot")
def test_two_damaged_checkpoints_are_named(folder):
    for name in (checkpoint.NAME, checkpoint.PREVIOUS):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(BadFile, match=r"checkpoint\.safetensors is not a checkpoint of vq"):
        checkpoint.last(folder)


@pytest.mark.fault("11 checkpoints that rot")
def test_damaged_best_weights_are_named(folder):
    """The run goes on, and looks for best weights anew; other runs do not begin with them."""
    assert checkpoint.last(folder).counters["best_step"] > 0
    (folder / checkpoint.BEST).write_bytes(flipped((folder / checkpoint.BEST).read_bytes(), 9000))
    found = checkpoint.last(folder)
    assert found.counters["best_step"] == 0 and "best.safetensors is damaged" in found.remarks[0]
    with pytest.raises(BadFile, match="cannot be read"):
        checkpoint.weights_of(folder)


@pytest.mark.fault("11 checkpoints that rot")
def test_checkpoints_without_checksum_resume(folder):
    """Versions before checksums wrote neither the checksum nor a previous checkpoint."""
    (folder / checkpoint.PREVIOUS).unlink()
    for name in (checkpoint.NAME, checkpoint.BEST):
        without_checksum(folder / name)
        with safe_open(folder / name, "pt") as file:
            assert "crc32" not in (file.metadata() or {})
    found = checkpoint.last(folder)
    assert found.counters["step"] == 4 and found.remarks == ()
    longer = recipes.override(recipes.from_dict(found.recipe, "test"), ["optimization.steps=6"])
    _, state = train(longer, folder, resume=True)
    assert state.step == 6
    assert checkpoint.last(folder).path.name == checkpoint.NAME and (folder / checkpoint.PREVIOUS).exists()


@pytest.mark.fault("11 checkpoints that rot")
def test_a_tensor_of_one_number_does_not_fill_a_larger_one(folder):
    with pytest.raises(ValueError, match="another shape"):
        checkpoint._fill({"a": torch.zeros(4)}, {"a": torch.ones(1)}, "")


@pytest.mark.fault("12 two runs in one folder")
def test_a_second_run_in_the_folder_is_refused(tmp_path):
    """It says by which process; a lock that its process left behind holds nobody up."""
    with (
        lock.held(tmp_path / "a" / "b"),
        pytest.raises(UsageError, match=rf"another vq train \(process {os.getpid()} on .*\) is at work in"),
        lock.held(tmp_path / "a" / "b"),
    ):
        pass
    assert not list(tmp_path.iterdir())  # nothing was written
    (tmp_path / lock.NAME).write_text("process 1 on elsewhere\n")  # of one that was killed
    with lock.held(tmp_path):
        assert str(os.getpid()) in (tmp_path / lock.NAME).read_text()


@pytest.mark.fault("12 two runs in one folder")
def test_a_run_holds_the_lock(folder):
    chosen = recipes.from_dict(checkpoint.metadata_of(folder)[0], "test")
    with lock.held(folder), pytest.raises(UsageError, match="another vq train"):
        run.run(chosen, [folder], folder, resume=True)


@pytest.mark.fault("12 other data")
def test_resuming_on_other_data_says_so(tmp_path, picture):
    from vqcli.media import image

    for name, count in (("one", 3), ("two", 4)):
        (tmp_path / name).mkdir()
        for number in range(count):
            image.write(tmp_path / name / f"{number}.png", picture(40, 40))
    settings = ("model.arguments.widths=[4, 4]", "data.batch=4")
    said: list[str] = []

    def go(steps: int, data: str, **options: object) -> list[str]:
        said.clear()
        chosen = of(VECTOR, f"optimization.steps={steps}", *settings)
        run.run(chosen, [tmp_path / data], tmp_path / "run", say=said.append, device="cpu", **options)
        return [line for line in said if "other" in line]

    assert go(1, "one") == []
    assert go(2, "one", resume=True) == []
    assert go(3, "two", resume=True) == [f"resumed on other data: {tmp_path}/two; before, {tmp_path}/one"]
    assert go(4, "two", resume=True) == []  # the data are those of the last session
    (tmp_path / "two" / "3.png").unlink()
    (tmp_path / "two" / "2.png").unlink()
    assert go(5, "two", resume=True) == ["resumed on other data: 2 pictures in the same place; before, 4"]
    alarms = [event["text"] for event in log.read(tmp_path / "run") if event["event"] == "alarm"]
    assert sum("other data" in text for text in alarms) == 2
