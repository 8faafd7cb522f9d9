"""A run that is stopped and resumed, however it was stopped, ends as if it had never been."""

import multiprocessing
import random
import time

import pytest
import torch

from tests.training.conftest import SCALAR, VECTOR, of, train
from vqcli.errors import BadFile
from vqcli.training import checkpoint, log, loop

STEPS = 60


def same(one, other):
    one, other = checkpoint.tensors_of(one), checkpoint.tensors_of(other)
    assert one.keys() == other.keys()
    return [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


@pytest.mark.parametrize("text", [VECTOR, SCALAR], ids=["vector", "scalar"])
@pytest.mark.parametrize("change", ["precision=float32", "precision=bfloat16", "optimizer=soap"])
def test_resuming_equals_going_on(tmp_path, stop_at, text, change):
    """12 steps straight equal 6, stop, 6: bit for bit."""
    twelve = of(text, "optimization.steps=12", "optimization.validate_every=5", f"optimization.{change}")
    straight, _ = train(twelve, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(twelve, tmp_path / "halved", progress=stop_at(6))
    resumed, state = train(twelve, tmp_path / "halved", resume=True)
    assert same(straight, resumed) == []
    assert state.step == 12
    steps = [event["step"] for event in log.read(tmp_path / "halved") if event["event"] == "validation"]
    assert steps == [5, 10, 12]


def killed_run(folder):
    """What the child does: a run that saves at every step, so that kills fall into the writing too."""
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0
    train(of(VECTOR, f"optimization.steps={STEPS}"), folder, resume=checkpoint.exists(folder))


def written(path):
    """When a file was written, in ns; 0 if it is not there, as for a moment between two checkpoints."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_kill_9_at_ten_random_moments(tmp_path):
    """The state that is left is always whole, and the end equals the undisturbed run, bit for bit."""
    undisturbed, _ = train(of(VECTOR, f"optimization.steps={STEPS}"), tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vqcli.training.run"])  # torch is imported once, not by each child
    draw = random.Random(0)
    kills = 0
    while kills < 10:
        before = written(folder / checkpoint.NAME)
        child = context.Process(target=killed_run, args=(folder,))
        child.start()
        # let it get to work, then strike at any moment
        while child.is_alive() and not (
            (folder / checkpoint.NAME).exists() and (folder / checkpoint.NAME).stat().st_mtime_ns > before
        ):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.03))
        if not child.is_alive():
            break  # the run was over before ten kills
        child.kill()
        child.join()
        kills += 1
    assert kills >= 3
    resumed, state = train(of(VECTOR, f"optimization.steps={STEPS}"), folder, resume=True)
    assert state.step == STEPS
    assert same(undisturbed, resumed) == []


@pytest.mark.parametrize("damage", [b"", b"nonsense", None], ids=["empty", "nonsense", "half"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    train(of(VECTOR, "optimization.steps=2"), tmp_path)
    whole = (tmp_path / checkpoint.NAME).read_bytes()
    (tmp_path / checkpoint.NAME).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(BadFile, match="is not a checkpoint of vq"):
        train(of(VECTOR, "optimization.steps=4"), tmp_path, resume=True)


def test_a_checkpoint_of_another_net_is_refused(tmp_path):
    train(of(VECTOR, "optimization.steps=2"), tmp_path)
    other = of(VECTOR, "optimization.steps=4", "model.arguments.quantizer.K=8")
    with pytest.raises(BadFile, match="cannot resume this run"):
        train(other, tmp_path, resume=True)
