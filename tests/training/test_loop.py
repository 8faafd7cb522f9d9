import pytest
import torch

from tests.training.conftest import SCALAR, VECTOR, of, train
from vqcli.errors import VqError
from vqcli.training import checkpoint, loop
from vqcli.training.budget import Budget
from vqcli.training.log import RunLog, read
from vqcli.training.losses import Loss
from vqcli.training.tasks.codec import CodecTask


def events(folder, kind):
    return [event for event in read(folder) if event["event"] == kind]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("text", [VECTOR, SCALAR], ids=["vector", "scalar"])
def test_learning(tmp_path, text, precision):
    """Sixty steps on made shapes lower the loss, on held-out ones too, and use more than half of the codes."""
    _, state = train(of(text, f"optimization.precision={precision}"), tmp_path / "run")
    log = events(tmp_path / "run", "train")
    assert [event["step"] for event in log] == list(range(3, 61, 3))
    assert sum(event["mse"] for event in log[-3:]) / 3 < 0.75 * log[0]["mse"]
    judged = events(tmp_path / "run", "validation")
    assert judged[-1]["mse"] < 0.85 * log[0]["mse"]
    if precision == "float32":
        assert judged[-1]["loss"] < judged[0]["loss"]
    assert state.best == pytest.approx(min(event["loss"] for event in judged), rel=1e-4)
    if text is VECTOR:
        last = events(tmp_path / "run", "epoch")[-1]
        assert last["usage"][0] > 0.5
        assert 1 < last["perplexity"][0] <= 16
    assert sorted((tmp_path / "run" / "pictures").iterdir())


LIKELIHOOD = (
    "model.arguments.likelihood.kind=logistics",
    "model.arguments.channels=1",
    "model.arguments.widths=[64, 64]",
)


@pytest.mark.parametrize("family", ["vqvae2d", "vae2d", "vimco2d"])
def test_bits_per_dim_fall(tmp_path, family):
    """A VQ-VAE with a likelihood and the two baselines learn on the same terms, in grey."""
    text = VECTOR.replace(b"vqvae2d", family.encode())
    if family != "vqvae2d":
        extra = b"K = 8\nsamples = 3" if family == "vimco2d" else b""
        text = text.replace(b'quantizer = { kind = "vector", K = 16 }', extra)
    _, state = train(
        of(text, *LIKELIHOOD, "optimization.learning_rate=3e-3", "model.arguments.linear_start=16.0"), tmp_path
    )
    judged = [event["bits_per_dim"] for event in events(tmp_path, "validation")]
    log = [event["bits_per_dim"] for event in events(tmp_path, "train")]
    assert sum(log[-3:]) / 3 < log[0] - 0.25
    assert judged[-1] < judged[0] and state.best == pytest.approx(min(judged), rel=1e-4)


def test_likelihoods_are_judged_by_what_they_are_for(tmp_path, monkeypatch):
    """The terms of a quantizer grow with its latents, beside bits/dim that fall."""
    judged = iter([{"loss": 1.0, "bits_per_dim": 3.0}, {"loss": 2.0, "bits_per_dim": 2.5}])
    monkeypatch.setattr(loop.Validation, "measure", lambda self, task: next(judged))
    _, state = train(of(VECTOR, "optimization.steps=4", "optimization.validate_every=2"), tmp_path)
    assert (state.best, state.best_step) == (2.5, 4)


def test_a_batch_in_parts_gives_the_same_gradients(tmp_path):
    """Gradient accumulation: with a loss codebook nothing but gradients moves the weights."""
    settings = (
        "optimization.steps=3",
        "model.arguments.quantizer.update=loss",
        "model.arguments.quantizer.init=uniform",
    )
    whole, _ = train(of(VECTOR, *settings), tmp_path / "whole")
    parts, _ = train(of(VECTOR, *settings, "optimization.accumulate=4"), tmp_path / "parts")
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4), name


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path, monkeypatch):
    train(of(VECTOR, "optimization.steps=4"), tmp_path)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    nothing = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(CodecTask, "forward", lambda self, pixels, labels: Loss(nothing))
    with pytest.raises(VqError, match="not finite at step 5") as raised:
        train(of(VECTOR, "optimization.steps=8"), tmp_path, resume=True)
    assert "learning_rate" in raised.value.hint
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_short_memory_ends_in_advice(tmp_path, monkeypatch):
    def too_large(self, pixels, labels):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1 TB")

    monkeypatch.setattr(CodecTask, "forward", too_large)
    with pytest.raises(VqError, match="a batch of 16 in 1 part does not fit") as raised:
        train(of(VECTOR), tmp_path)
    assert "optimization.accumulate=2" in raised.value.hint


def test_other_errors_are_not_taken_for_short_memory(tmp_path, monkeypatch):
    def broken(self, pixels, labels):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(CodecTask, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(of(VECTOR), tmp_path)


def test_a_budget_ends_the_run(tmp_path):
    _, state = train(of(VECTOR, "optimization.steps=1000000"), tmp_path, budget=Budget(5))
    assert 0 < state.step < 1_000_000
    _, state = train(of(VECTOR, "optimization.steps=1000000"), tmp_path / "late", budget=Budget(0))
    assert state.step == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_schedules(tmp_path, schedule):
    """Both warm up; then one falls to a hundredth, and the other stays."""
    train(of(VECTOR, f"optimization.schedule={schedule}"), tmp_path)
    rates = [event["learning_rate"] for event in events(tmp_path, "train")]
    assert rates[0] < rates[2]
    if schedule == "constant":
        assert set(rates[2:]) == {0.01}
    else:
        assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] < 2e-4


def test_distortion_mixed_with_structural_similarity(tmp_path):
    train(of(SCALAR, "rate.ssim=0.7"), tmp_path)
    unlike = [event["1_minus_ms_ssim"] for event in events(tmp_path, "train")]
    assert sum(unlike[-3:]) < 0.8 * sum(unlike[:3])


def test_no_better_validation_for_a_while_ends_the_run(tmp_path, monkeypatch):
    judged = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    monkeypatch.setattr(loop.Validation, "measure", lambda self, task: {"loss": next(judged)})
    often = ("optimization.validate_every=2", "optimization.patience=3")
    _, state = train(of(VECTOR, *often), tmp_path)
    assert (state.step, state.best, state.best_step) == (10, 2.0, 4)


def test_the_best_weights_become_the_model(tmp_path, monkeypatch):
    seen = []

    def worse_each_time(self, task):
        seen.append({name: tensor.clone() for name, tensor in task.named_parameters()})
        return {"loss": float(len(seen))}

    monkeypatch.setattr(loop.Validation, "measure", worse_each_time)
    task, state = train(of(VECTOR, "optimization.steps=12", "optimization.validate_every=5"), tmp_path)
    assert len(seen) == 3 and state.best_step == 5
    for name, tensor in task.named_parameters():
        assert torch.equal(tensor, seen[0][name]), name


def test_usage_is_counted_over_an_epoch_and_a_quarter_raises_the_alarm(tmp_path):
    task = CodecTask(of(VECTOR, "model.arguments.quantizer.groups=2"))
    task.count(torch.tensor([[[[0, 1], [2, 3]], [[5, 5], [5, 5]]]]))  # [1, 2 groups, 2, 2]
    task.count(torch.tensor([[[[0, 1], [2, 3]], [[6, 6], [5, 5]]]]))
    with RunLog(tmp_path, None) as log:
        assert loop.close_epoch(task, 7, log, 1) == 2 / 16
    (epoch,) = events(tmp_path, "epoch")
    assert epoch["usage"] == [0.25, 0.125]
    assert epoch["perplexity"][0] == pytest.approx(4)
    assert 1 < epoch["perplexity"][1] < 2
    (alarm,) = events(tmp_path, "alarm")
    assert "only 12% of a codebook is in use" in alarm["text"]
    assert not task.usage.any()
