"""The quantizers against a plain recomputation in numpy (z_e, z_q, K, D, beta, gamma as in the paper)."""

import itertools

import numpy as np
import pytest
import torch

from vqcli.nets.layers.quantizer import ScalarQuantizer, VectorQuantizer, nearest_codes, straight_through

SETTINGS = list(itertools.product(["ema", "loss", "frozen"], [1, 2], [1, 3]))
D = 4


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (2, D, 5, 6)))


def vector(update: str = "ema", groups: int = 1, levels: int = 1, **options: object) -> VectorQuantizer:
    """A quantizer whose entries lie where the latents are."""
    options = {"K": 8, "init": "uniform", "revive": 0, **options}
    quantizer = VectorQuantizer(D, groups=groups, levels=levels, update=update, **options)
    quantizer.train()(latents())  # whatever happens on the first batch is over
    set_codebook(quantizer, torch.randn_like(quantizer.codebook), torch.ones_like(quantizer.counts))
    return quantizer


def set_codebook(quantizer: VectorQuantizer, codebook: torch.Tensor, counts: torch.Tensor) -> None:
    """Entries, and moving averages that go with them."""
    quantizer.codebook.data.copy_(codebook)
    quantizer.counts.copy_(counts)
    quantizer.sums.copy_(codebook * counts[..., None])


def nearest_by_broadcast(rows: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    return ((rows[:, None] - codebook[None]) ** 2).sum(-1).argmin(1)


def quantize_by_hand(z_e: torch.Tensor, codebook: torch.Tensor) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """z_q [B, D, *grid], codes [B, levels * groups, *grid], and what each level left over, in float64."""
    levels, groups, _, d = codebook.shape
    books = codebook.detach().double().numpy()
    rest = np.moveaxis(z_e.detach().double().numpy(), 1, -1)  # (B, *grid, D)
    z_q, codes, rests = np.zeros_like(rest), [], []
    for level, group in itertools.product(range(levels), range(groups)):
        part = slice(group * d, (group + 1) * d)
        index = nearest_by_broadcast(rest[..., part].reshape(-1, d), books[level, group]).reshape(rest.shape[:-1])
        codes.append(index)
        z_q[..., part] += books[level, group][index]
        rest[..., part] -= books[level, group][index]
        if group == groups - 1:
            rests.append(rest.copy())
    return np.moveaxis(z_q, -1, 1), np.stack(codes, 1), rests


# ---------------------------------------------------------------- nearest code (eq. 1)


@pytest.mark.parametrize(
    ("rows", "K", "d"), [(1, 1, 1), (7, 3, 2), (300, 17, 5), (2**18 // 2048 * 2 + 3, 2048, 3)], ids=str
)
def test_nearest_codes_equal_the_broadcast(rows, K, d):
    """The last case takes three chunks."""
    x, codebook = torch.randn(rows, d), torch.randn(K, d)
    expected = nearest_by_broadcast(x.double().numpy(), codebook.double().numpy())
    assert np.array_equal(nearest_codes(x, codebook).numpy(), expected)


def test_nearest_codes_of_nothing():
    index = nearest_codes(torch.zeros(0, 3), torch.randn(4, 3))
    assert index.shape == (0,) and index.dtype == torch.int64


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z_e, z_q = latents().requires_grad_(), latents().requires_grad_()
    out = straight_through(z_e, z_q)
    torch.testing.assert_close(out, z_q)
    (out * torch.arange(out.numel()).reshape(out.shape)).sum().backward()
    assert torch.equal(z_e.grad.flatten(), torch.arange(out.numel()).float())
    assert z_q.grad is None


# ---------------------------------------------------------------- vector quantizer, forward


@pytest.mark.parametrize(("update", "groups", "levels"), SETTINGS)
@pytest.mark.parametrize("grid", [(5, 6), (7,), (2, 3, 4)], ids=str)
def test_vector_codes_and_values_equal_numpy(update, groups, levels, grid):
    quantizer, z_e = vector(update, groups, levels).eval(), latents(3, D, *grid)
    z_q, codes, _ = quantize_by_hand(z_e, quantizer.codebook)
    out = quantizer(z_e)
    assert out.codes.shape == (3, groups * levels, *grid)
    assert quantizer.codebook_sizes == (8,) * (groups * levels)
    assert np.array_equal(out.codes.numpy(), codes)
    assert np.array_equal(quantizer.codes(z_e).numpy(), codes)
    assert out.z_q.detach().numpy() == pytest.approx(z_q, abs=1e-5)
    assert quantizer.lookup(out.codes).detach().numpy() == pytest.approx(z_q, abs=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_first_levels_are_the_codes_of_fewer_levels(groups):
    quantizer, z_e = vector("ema", groups, levels=3).eval(), latents()
    codes = quantizer.codes(z_e)
    error = []
    for levels in (1, 2, 3):
        first = codes[:, : levels * groups]
        assert torch.equal(quantizer.codes(z_e, levels=levels), first)
        out = quantizer(z_e, levels=levels)
        assert torch.equal(out.codes, first)
        torch.testing.assert_close(out.z_q, quantizer.lookup(first))
        error.append(float((out.z_q - z_e).square().mean()))
    assert len(set(error)) == 3


@pytest.mark.parametrize(("update", "groups", "levels"), SETTINGS)
def test_vector_losses_equal_numpy(update, groups, levels):
    quantizer, z_e = vector(update, groups, levels, beta=0.25), latents()
    _, _, rests = quantize_by_hand(z_e, quantizer.codebook)
    error = sum((rest**2).mean() for rest in rests)
    losses = quantizer(z_e).losses
    assert losses["commitment"].item() == pytest.approx(0.25 * error, rel=1e-4)
    if update == "loss":
        assert losses["codebook"].item() == pytest.approx(error, rel=1e-4)
    assert set(losses) == ({"commitment", "codebook"} if update == "loss" else {"commitment"})


# ---------------------------------------------------------------- vector quantizer, gradients


@pytest.mark.parametrize(("update", "groups", "levels"), SETTINGS)
def test_each_term_reaches_what_it_should(update, groups, levels):
    quantizer, z_e = vector(update, groups, levels), latents().requires_grad_()
    out = quantizer(z_e)

    def gradients(term: torch.Tensor) -> list[torch.Tensor | None]:
        wanted = [z_e, quantizer.codebook] if update == "loss" else [z_e]
        return torch.autograd.grad(term, wanted, allow_unused=True, retain_graph=True)

    reconstruction = gradients((out.z_q * 3).sum())
    assert torch.equal(reconstruction[0], torch.full_like(z_e, 3))  # straight through: the identity
    commitment = gradients(out.losses["commitment"])
    assert out.losses["commitment"] > 0 and commitment[0].abs().max() > 0
    if update == "loss":
        codebook = gradients(out.losses["codebook"])
        assert out.losses["codebook"] > 0 and codebook[1].abs().amax((2, 3)).min() > 0  # each level and group
        assert reconstruction[1] is None and commitment[1] is None and codebook[0] is None
    else:
        assert not quantizer.codebook.requires_grad


# ---------------------------------------------------------------- codebooks that learn, and those that do not


@pytest.mark.parametrize(("groups", "levels"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_moving_averages_follow_equations_6_to_8(groups, levels):
    gamma, d = 0.9, D // groups
    quantizer = vector("ema", groups, levels, gamma=gamma).train()
    for _ in range(4):
        z_e = latents()
        counts, sums = quantizer.counts.double().numpy().copy(), quantizer.sums.double().numpy().copy()
        _, codes, rests = quantize_by_hand(z_e, quantizer.codebook)
        inputs = [np.moveaxis(z_e.double().numpy(), 1, -1), *rests[:-1]]  # what each level quantizes
        quantizer(z_e)
        for level, group, k in np.ndindex(levels, groups, 8):
            mine = inputs[level][..., group * d : (group + 1) * d][codes[:, level * groups + group] == k]
            counts[level, group, k] = gamma * counts[level, group, k] + (1 - gamma) * len(mine)
            sums[level, group, k] = gamma * sums[level, group, k] + (1 - gamma) * mine.sum(0)
        assert quantizer.counts.numpy() == pytest.approx(counts, rel=1e-4)
        assert quantizer.sums.numpy() == pytest.approx(sums, rel=1e-4, abs=1e-5)
        assert quantizer.codebook.data.numpy() == pytest.approx(sums / counts[..., None], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("update", "mode"), [("ema", "eval"), ("frozen", "eval"), ("frozen", "train"), ("loss", "train")]
)
def test_codebooks_that_stay(update, mode):
    """Moving averages move in training only, frozen codebooks never, and those of a loss by the optimizer only."""
    init = "data" if mode == "eval" else "uniform"
    quantizer = VectorQuantizer(D, K=8, groups=2, levels=3, update=update, init=init, revive=0.5)
    quantizer.train(mode == "train")
    before = quantizer.codebook.data.clone()
    for _ in range(3):
        quantizer(latents())
        quantizer.codes(latents())
    assert torch.equal(quantizer.codebook.data, before)


def test_a_dead_entry_is_revived_and_stays_alive():
    """Its count and sum are reset with it, or the next update would bring the old entry back."""
    quantizer = vector("ema", K=4, gamma=0.5, revive=0.1).train()
    z_e = latents(4, D, 4, 4)  # 64 rows, so an even use is 16
    rows = z_e.movedim(1, -1).reshape(-1, D)
    entries = torch.stack([rows[0], rows[1], rows[2], torch.full((D,), 1000.0)])
    set_codebook(quantizer, entries[None, None], torch.tensor([[[16, 16, 16, 0.1]]]))
    quantizer(z_e)
    revived = quantizer.codebook.data[0, 0, 3].clone()
    assert (rows - revived).abs().sum(1).min() < 1e-5  # an encoder output
    assert quantizer.counts[0, 0, 3] == 16
    torch.testing.assert_close(quantizer.sums[0, 0, 3], revived * 16)
    for _ in range(3):
        quantizer(z_e)
        entry = quantizer.codebook.data[0, 0, 3]
        assert (entry >= rows.amin(0)).all() and (entry <= rows.amax(0)).all()
    assert (quantizer.codes(z_e) == 3).any()


def test_revival_can_be_turned_off():
    quantizer = vector("ema", K=4, gamma=0.5, revive=0).train()
    entries = torch.randn(1, 1, 4, D)
    entries[0, 0, 3] = 1000.0
    set_codebook(quantizer, entries, torch.ones(1, 1, 4))
    for _ in range(5):
        quantizer(latents())
    assert quantizer.codebook.data[0, 0, 3].tolist() == pytest.approx([1000.0] * D, rel=1e-3)


@pytest.mark.parametrize("init", ["uniform", "data"])
def test_entries_in_even_use_are_not_dead_in_the_first_step(init):
    """Averages begin somewhere; where they begin must not look like disuse when a batch is many times K."""
    quantizer = VectorQuantizer(1, K=2, init=init, revive=0.03).train()
    z_e = torch.cat([torch.full((1, 1, 400), -0.4), torch.full((1, 1, 400), 0.4)], dim=2)
    start = torch.tensor([[[[-0.25], [0.25]]]])
    if init == "data":
        quantizer._initialise(quantizer._rows(z_e))
    set_codebook(quantizer, start, quantizer.counts.clone())
    for _ in range(3):
        quantizer(z_e)
        low, high = quantizer.codebook.data.flatten().tolist()
        assert -0.4 < low < -0.25 and 0.25 < high < 0.4  # on their way, not replaced by a row


def test_entries_begin_as_encoder_outputs():
    quantizer = VectorQuantizer(D, K=8, levels=2, update="loss", init="data").train()
    z_e = latents() * 5 + 20
    quantizer(torch.zeros(0, D, 5, 6))  # nothing to begin with
    assert not quantizer.initialised
    quantizer(z_e)
    rows = z_e.movedim(1, -1).reshape(-1, D)
    distances = torch.cdist(quantizer.codebook.data[0, 0], rows).amin(1)
    assert (distances < 0.05 * 5 * D).all()  # but for a little noise
    assert quantizer.codebook.data[1].abs().max() < 15  # the second level begins with what the first left over
    before = quantizer.codebook.data.clone()
    quantizer(latents())
    assert torch.equal(quantizer.codebook.data, before)  # once only


def test_entries_drawn_from_equal_rows_differ():
    quantizer = VectorQuantizer(D, K=8, update="loss", init="data").train()
    quantizer(torch.ones(1, D, 3, 3))
    assert len(torch.unique(quantizer.codebook.data[0, 0], dim=0)) == 8


def test_uniform_entries_lie_within_one_over_K():
    codebook = VectorQuantizer(D, K=8, init="uniform").codebook
    assert codebook.abs().max() <= 1 / 8 and codebook.abs().max() > 1 / 16


def test_vector_is_float32_under_autocast():
    """Scores in 16 bits choose other codes."""
    quantizer = vector("ema", K=64).eval()
    z_e = latents(4, D, 32, 32)
    expected = quantizer(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        out, codes = quantizer(z_e), quantizer.codes(z_e)
    assert out.z_q.dtype == torch.float32
    assert torch.equal(out.codes, expected.codes)
    assert torch.equal(codes, expected.codes)
    torch.testing.assert_close(out.losses["commitment"], expected.losses["commitment"])


def test_sixteen_bit_latents_give_float32():
    assert vector()(latents().bfloat16()).z_q.dtype == torch.float32
    assert ScalarQuantizer(D, 3)(latents().bfloat16()).z_q.dtype == torch.float32


@pytest.mark.parametrize("update", ["ema", "loss", "frozen"])
def test_an_empty_batch_is_fine(update):
    quantizer = vector(update, groups=2, levels=2).train()
    before = quantizer.codebook.data.clone()
    z_e = torch.zeros(0, D, 5, 6, requires_grad=True)
    out = quantizer(z_e)
    assert out.z_q.shape == (0, D, 5, 6) and out.codes.shape == (0, 4, 5, 6)
    assert quantizer.lookup(out.codes).shape == (0, D, 5, 6)
    loss = sum(out.losses.values())
    assert loss == 0
    loss.backward()
    assert torch.equal(quantizer.codebook.data, before)


@pytest.mark.parametrize("wrong", [{"groups": 3}, {"update": "sgd"}, {"init": "zeros"}])
def test_vector_arguments_are_checked(wrong):
    with pytest.raises(ValueError):
        VectorQuantizer(D, K=8, **wrong)


# ---------------------------------------------------------------- scalar quantizer


def scalar(qualities: int = 3) -> ScalarQuantizer:
    quantizer = ScalarQuantizer(D, [1, 2, 3, 10], qualities, gain_range=(1.0, 9.0))
    quantizer.log_gain.data += 0.2 * torch.randn(qualities, D)
    quantizer.log_inverse_gain.data += 0.1 * torch.randn(qualities, D)
    return quantizer


def gain_by_hand(log_gain: torch.Tensor, quality: float) -> np.ndarray:
    """Geometric interpolation between the gains of whole qualities: [D]."""
    table = np.exp(log_gain.detach().double().numpy())
    below = min(int(quality) - 1, max(len(table) - 2, 0))
    share = quality - 1 - below
    return table[below] ** (1 - share) * table[min(below + 1, len(table) - 1)] ** share


@pytest.mark.parametrize("qualities", [1, 3])
@pytest.mark.parametrize("grid", [(5, 6), (7,)], ids=str)
def test_scalar_codes_and_values_equal_numpy(qualities, grid):
    quantizer, z_e = scalar(qualities), latents(5, D, *grid)
    quality = torch.tensor([1.0, 3.0, 2.0, 1.3, 2.9]).clamp(max=qualities)
    limits = np.array([1, 2, 3, 10]).reshape(-1, *(1,) * len(grid))
    out = quantizer(z_e, quality)
    assert torch.equal(quantizer.codes(z_e, quality), out.codes)
    torch.testing.assert_close(quantizer.lookup(out.codes, quality), out.z_q)
    for item, q in enumerate(quality.tolist()):
        gain = gain_by_hand(quantizer.log_gain, q).reshape(limits.shape)
        inverse = gain_by_hand(quantizer.log_inverse_gain, q).reshape(limits.shape)
        rounded = np.clip(np.rint(z_e[item].double().numpy() * gain), -limits, limits)
        assert np.array_equal(out.codes[item].numpy(), rounded + limits)
        assert out.z_q[item].detach().numpy() == pytest.approx(rounded * inverse, rel=1e-4, abs=1e-5)


def test_without_a_quality_the_last_is_taken():
    quantizer, z_e = scalar(), latents()
    last = torch.full((2,), 3.0)
    assert torch.equal(quantizer.codes(z_e), quantizer.codes(z_e, last))
    assert torch.equal(quantizer.lookup(quantizer.codes(z_e)), quantizer.lookup(quantizer.codes(z_e), last))
    exact = quantizer.double()  # as images without loss are decoded
    assert torch.equal(exact.lookup(exact.codes(z_e)), exact.lookup(exact.codes(z_e), last.double()))


def test_scalar_codes_stay_in_their_codebooks():
    quantizer = scalar()
    assert quantizer.codebook_sizes == (3, 5, 7, 21)
    codes = quantizer.codes(latents() * 1000)
    for group, K in enumerate(quantizer.codebook_sizes):
        assert codes[:, group].min() == 0 and codes[:, group].max() == K - 1
    assert torch.equal(quantizer.codes(torch.zeros(1, D, 1, 1)).flatten(), torch.tensor([1, 2, 3, 10]))


def test_scalar_gradients():
    """Straight through to z_e times both gains, within the limits; to the gains of the qualities in use alone."""
    quantizer, z_e = scalar(), latents().requires_grad_()
    quality = torch.tensor([2.0, 2.5])
    quantizer(z_e, quality).z_q.sum().backward()
    for item, q in enumerate(quality.tolist()):
        slope = gain_by_hand(quantizer.log_gain, q) * gain_by_hand(quantizer.log_inverse_gain, q)
        limits = (np.array(quantizer.codebook_sizes) // 2)[:, None, None]
        scaled = z_e[item].detach().numpy() * gain_by_hand(quantizer.log_gain, q)[:, None, None]
        expected = np.where(np.abs(scaled) <= limits, slope[:, None, None], 0)
        assert (expected == 0).any() and (expected != 0).any()
        assert z_e.grad[item].numpy() == pytest.approx(expected, rel=1e-4)
    for gain in (quantizer.log_gain, quantizer.log_inverse_gain):
        assert (gain.grad[0] == 0).all()
        assert (gain.grad[1:] != 0).all()


def test_scalar_is_float32_under_autocast():
    quantizer, z_e = scalar(), latents()
    expected = quantizer(z_e, torch.tensor([1.0, 2.7]))
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(z_e, torch.tensor([1.0, 2.7]))
    assert out.z_q.dtype == torch.float32
    assert torch.equal(out.z_q, expected.z_q) and torch.equal(out.codes, expected.codes)


@pytest.mark.parametrize("wrong", [{"limits": [1, 2]}, {"limits": 0}, {"limits": 3, "qualities": 0}])
def test_scalar_arguments_are_checked(wrong):
    with pytest.raises(ValueError):
        ScalarQuantizer(D, **wrong)
