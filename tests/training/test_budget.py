"""A budget is wall time, from the command's start to its end, on a clock that the tests move by hand."""

import math
import time

import pytest
import torch

from tests.training.conftest import CPU, VECTOR, begin, of
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.errors import UsageError
from vqcli.evaluation.image import rate_distortion
from vqcli.training import autotune, run
from vqcli.training.budget import Budget, seconds
from vqcli.training.log import read
from vqcli.training.tasks import codec
from vqcli.zoo import loading


class FakeClock:
    now = 1000.0

    def __call__(self):
        return self.now

    def costs(self, took_s, call):
        """`call`, which takes so many seconds of this clock; `took_s` may depend on the moment."""

        def slower(*arguments, **options):
            self.now += took_s() if callable(took_s) else took_s
            return call(*arguments, **options)

        return slower


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_what_is_left(clock):
    budget = Budget(100, begun=clock() - 4)
    assert (budget.left_s, budget.training_left_s, budget.trial_s) == (96, 88, 5)
    clock.now += 90
    assert budget.part(0.5).left_s == 3
    assert budget.without(30).left_s == -24
    long = Budget(7200)
    assert (long.training_left_s, long.trial_s) == (7020, 20)
    endless = Budget()
    assert endless.left_s == math.inf and endless.trial_s == 20 and endless.part(0.5).left_s == math.inf


def test_as_many_as_there_is_time_for(clock):
    def work(n):
        clock.now += 1
        return n

    assert [work(n) for n in Budget(3.5).limit(range(10))] == [0, 1, 2, 3]
    assert [work(n) for n in Budget(0).limit(range(10), least=2)] == [0, 1]
    assert [work(n) for n in Budget(100).limit(range(3))] == [0, 1, 2]


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90), ("45m", 2700), ("1.5h", 5400)])
def test_durations(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["90", "s", "-3s", "0s", "1d", "1h30m"])
def test_no_durations(text):
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize("step_s", [0.2, 0.9])
@pytest.mark.parametrize("loading_s", [1.0, 15.0])
def test_a_run_ends_with_its_budget(tmp_path, monkeypatch, clock, step_s, loading_s):
    """Loading, timing, training, validation and export end within 5 % of the 60 seconds."""

    def one_step():
        thinking = torch.is_autocast_enabled("cpu")
        return (step_s if torch.is_grad_enabled() else step_s / 3) * (2.5 if thinking else 1)

    monkeypatch.setattr(codec.CodecTask, "forward", clock.costs(one_step, codec.CodecTask.forward))
    monkeypatch.setattr(rate_distortion, "evaluate", clock.costs(0.8, rate_distortion.evaluate))
    monkeypatch.setattr(loading, "save", clock.costs(0.3, loading.save))
    begun = clock()
    budget = Budget(60, begun)
    clock.now += loading_s
    endless = of(VECTOR, "optimization.steps=1000000", "data.batch=4", "optimization.validate_every=400")
    run.run(endless, Shapes(count=200), tmp_path / "run", device="cpu", budget=budget)
    assert clock() - begun == pytest.approx(60, rel=0.05)
    log = read(tmp_path / "run")
    assert log[0]["precision"] == "float32" and log[0]["step_seconds"]
    (end,) = (event for event in log if event["event"] == "end")
    assert end["step"] > 20


def test_a_run_that_goes_on_keeps_its_budget(tmp_path, monkeypatch, clock, stop_at):
    monkeypatch.setattr(codec.CodecTask, "forward", clock.costs(0.3, codec.CodecTask.forward))
    endless = of(VECTOR, "optimization.steps=1000000", "data.batch=4", "optimization.precision=float32")
    options = {"device": "cpu", "threads": 1}

    def stop(progress):
        if progress.seconds > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(endless, Shapes(count=200), tmp_path / "run", budget=Budget(60), progress=stop, **options)
    clock.now += 1000  # nobody trains
    run.run(endless, Shapes(count=200), tmp_path / "run", resume=True, **options)
    (end,) = (event for event in read(tmp_path / "run") if event["event"] == "end")
    assert end["seconds"] == pytest.approx(60, rel=0.1)


def choice(clock, monkeypatch, cost, *settings, limit_s=20.0, threads=0, cores=2):
    """What is chosen where a step of n items takes n * cost(precision, threads) seconds."""

    def took(self, pixels, labels):
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        clock.now += len(pixels) * cost(precision, torch.get_num_threads())
        return forward(self, pixels, labels)

    forward = codec.CodecTask.forward
    monkeypatch.setattr(codec.CodecTask, "forward", took)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    before = torch.get_num_threads()
    dataset = Dataset(Shapes(count=200), held_out=False)
    task = begin(of(VECTOR, *settings), None, dataset)
    weights = [parameter.clone() for parameter in task.parameters()]
    begun = clock()
    try:
        return autotune.choose(task, dataset, CPU, limit_s, threads=threads), clock() - begun
    finally:
        torch.set_num_threads(before)
        assert all(map(torch.equal, weights, task.parameters()))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_fastest_is_chosen(clock, monkeypatch, precision, threads):
    def cost(tried, count):
        return 0.01 * (1 if count == threads else 1.5) * (1 if tried == precision else 2)

    found, took = choice(clock, monkeypatch, cost)
    assert (found.precision, found.threads) == (precision, threads)
    assert found.items == 16 and took < 20
    assert found.seconds[f"{precision} on {threads} thread{'s' * (threads > 1)}"] == pytest.approx(0.16)
    assert str(found).startswith(precision)


def test_a_tie_takes_the_simpler(clock, monkeypatch):
    found, _ = choice(clock, monkeypatch, lambda precision, threads: 0.01)
    assert (found.precision, found.threads) == ("float32", 1)


@pytest.mark.parametrize("cost", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("slowdown", [0.4, 2.8])
def test_timing_keeps_to_its_limit(clock, monkeypatch, cost, slowdown):
    """Where a batch takes too long, some of its items are timed, and what there is no time for is not chosen."""
    found, took = choice(clock, monkeypatch, lambda p, n: cost * (slowdown if p == "bfloat16" else 1), limit_s=20)
    # an item must be looked at to know that there is no time for more
    assert took <= max(20, 6 * cost)
    assert found.items < 16
    assert found.precision == ("bfloat16" if slowdown < 1 and cost < 5 else "float32")


def test_what_is_given_is_kept(clock, monkeypatch):
    cost = lambda precision, threads: 0.01 / threads * (9 if precision == "bfloat16" else 1)  # noqa: E731
    assert choice(clock, monkeypatch, cost, threads=1)[0].threads == 1
    fixed, took = choice(clock, monkeypatch, cost, "optimization.precision=bfloat16", threads=2)
    assert (fixed.precision, fixed.threads, fixed.seconds) == ("bfloat16", 2, {}) and not took
    assert choice(clock, monkeypatch, cost, "optimization.precision=bfloat16")[0].precision == "bfloat16"
