"""The engine `ray`: the same set as from the local one, and what it says when it cannot."""

import sys
from types import SimpleNamespace

import pytest

from vqcli.errors import UsageError
from vqcli.tokens import engines
from vqcli.tokens.engines import ray as engine
from vqcli.tokens.plan import Plan, begin
from vqcli.tokens.store import Store


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_ray_or_a_cluster_it_says_so(vq, pictures, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    done = vq("tokenize", pictures, "-o", "out", "--model", "scalar", "--engine", "ray")
    assert done.exit_code == 2 and "needs an extra" in done.stderr and "vqcli[ray]" in done.stderr
    done = vq("tokenize", pictures, "-o", "out", "--model", "scalar", "--address", "auto")
    assert done.exit_code == 2 and "--address is for --engine ray" in done.stderr
    assert {"local", "ray"} <= set(engines.names())


@pytest.mark.fault("21 Ray that does not begin in time")
def test_a_cluster_that_does_not_begin_is_one_line(vq, pictures, monkeypatch):
    """As on a machine with much other work; what is not there is another error."""

    def init(*of, **more):
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ended, there = [], SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: ended.append(1))
    monkeypatch.setitem(sys.modules, "ray", there)
    monkeypatch.setattr(engine, "find_spec", lambda name: True)
    arguments = ("tokenize", pictures, "-o", "out", "--model", "scalar", "--engine", "ray")
    done = vq(*arguments)
    assert done.exit_code == 1 and "Ray does not begin: The current node timed out during startup." in done.stderr
    assert ended and "goes on" in done.stderr and "Traceback" not in done.output
    done = vq(*arguments, "--address", "auto")
    assert done.exit_code == 2 and "no Ray cluster at auto" in done.stderr
    assert vq(*arguments[:-2]).exit_code == 3  # one picture is none


class OfTask:
    def __init__(self, device="auto", plan=None, store=None):
        self.device, self.plan, self.store = device, plan, store


def test_what_workers_take():
    """An accelerator each if there are some; else a CPU each, one of which is left free."""
    assert engine._placed(OfTask(), None, {"CPU": 8.0}) == ({"num_cpus": 1}, 7)
    assert engine._placed(OfTask(), None, {"CPU": 1.0}) == ({"num_cpus": 1}, 1)
    assert engine._placed(OfTask(), 9, {"CPU": 8.0}) == ({"num_cpus": 1}, 9)
    assert engine._placed(OfTask(), None, {"CPU": 8.0, "GPU": 2.0}) == ({"num_cpus": 1, "num_gpus": 1}, 2)
    assert engine._placed(OfTask("cpu"), None, {"CPU": 8.0, "GPU": 2.0}) == ({"num_cpus": 1}, 7)
    with pytest.raises(UsageError, match="has no GPU"):
        engine._placed(OfTask("cuda"), None, {"CPU": 8.0})


@pytest.mark.fault("21 machine without the shared folder")
def test_a_machine_that_does_not_see_the_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(
        model="m", digest="00" * 8, modality="image", format="npz", per_shard=9, batch_pixels=1, codebook_sizes=(9,)
    )
    here = Store(str(tmp_path / "out"))
    begin(here, plan)

    def look(store, there):
        engine.Actor(OfTask(plan=plan, store=store), str(tmp_path), {}, there, None)._look()

    look(here, None)
    look(here, str(tmp_path))
    for store, there in ((Store(str(tmp_path / "other")), None), (here, str(tmp_path / "gone.png"))):
        with pytest.raises(UsageError, match="does not see") as error:
            look(store, there)
        assert str(there or store.place) in str(error.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray, to itself
def test_the_set_is_that_of_the_local_engine(vq, pictures, tmp_path):
    pytest.importorskip("ray")
    arguments = ("tokenize", pictures, "--model", "scalar", "--per-shard", 2, "--device", "cpu")
    assert vq(*arguments, "-o", "local").exit_code == 3
    done = vq(*arguments, "-o", "ray", "--engine", "ray", "--workers", 2)
    assert done.exit_code == 3 and "4 shards made" in done.stderr and not done.stdout, done.output
    assert files_in(tmp_path / "local") == files_in(tmp_path / "ray")
