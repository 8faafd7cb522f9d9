"""Targets from clusters: when they are made, of what, and what they teach."""

import numpy as np
import pytest
import torch

from vqcli.errors import UsageError
from vqcli.media import mel
from vqcli.nets.codecs.speech import MelEncoder
from vqcli.training.speech import clusters, discriminants
from vqcli.training.speech.clusters import GATHER, Clusters, masked


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rows, so that clusters are made at once."""
    monkeypatch.setattr(clusters, "ROWS", 8 * GATHER)
    torch.manual_seed(0)


def made(begin=(GATHER,)):
    encoder = MelEncoder(4, 8, (1, 1), 4).eval()
    return Clusters(encoder, 4, 4, (3, 5), begin), encoder


def spectra(B=2, P=6):
    return torch.randn(B, mel.BANDS, 4 * P)


def step(targets, encoder, steps):
    return [targets.step(spectra(), encoder) for _ in range(steps)]


def test_there_are_none_until_they_are_made():
    targets, encoder = made()
    found = step(targets, encoder, GATHER + 2)
    assert found[:GATHER] == [None] * GATHER and found[-1].shape == (2, 2, 6)
    assert int(found[-1][:, 0].max()) < 3 and int(found[-1][:, 1].max()) < 5
    assert targets.rows.abs().sum(1).min() > 0  # every row was gathered


def test_the_nearest_centre_of_cepstra_around_the_middle():
    targets, encoder = made()
    step(targets, encoder, GATHER)
    clean = spectra(1, 6)
    found = targets.step(clean, encoder)[0]
    angles = np.outer(np.arange(13), np.arange(mel.BANDS) + 0.5) * np.pi / mel.BANDS
    cepstra = np.cos(angles) @ clean[0].double().numpy()  # (13, T)
    position = 2  # frames 8 to 11, its middle between 9 and 10
    parts = [(cepstra[:, 9 + offset] + cepstra[:, 10 + offset]) / 2 for offset in (-3, 0, 3)]
    row = np.concatenate(parts) * targets.scale.double().numpy()
    for number, centres in enumerate(targets.centres.double().numpy()[part] for part in (slice(3), slice(3, 8))):
        assert int(found[number, position]) == ((centres - row) ** 2).sum(1).argmin()


def test_the_second_round_hears_through_the_net_of_then():
    targets, encoder = made((GATHER, 3 * GATHER))
    step(targets, encoder, 2 * GATHER)
    with torch.no_grad():
        encoder.out.bias += 1
    assert not torch.equal(targets.teacher.out.bias, encoder.out.bias)
    assert step(targets, encoder, GATHER) == [None] * GATHER
    assert torch.equal(targets.teacher.out.bias, encoder.out.bias)
    with torch.no_grad():
        encoder.out.bias += 1  # learns on, the teacher does not
    assert step(targets, encoder, 1)[0] is not None
    assert not torch.equal(targets.teacher.out.bias, encoder.out.bias)
    assert not targets.rows[:, 4:].any() and targets.rows[:, :4].any()


def test_clusters_of_a_hidden_layer():
    encoder = MelEncoder(4, 48, (1, 2), 4).eval()
    targets = Clusters(encoder, 4, 4, (3, 5), (GATHER, 2 * GATHER), layer=1)
    step(targets, encoder, 2 * GATHER)
    clean = spectra(1, 6)
    found = targets.step(clean, encoder)[0]
    with torch.no_grad():
        hidden = encoder.after.blocks[0](encoder.down(encoder.before(encoder.inp(clean))))
        assert torch.equal(hidden, encoder.hidden(clean, 1)) and hidden.shape == (1, 48, 6)
        # the rest of the encoder makes its latents of the last
        last = encoder.hidden(clean, 2).transpose(1, 2)
        assert torch.allclose(encoder.out(encoder.norm(last)).transpose(1, 2), encoder(clean), atol=1e-6)
    rows = hidden[0].T * targets.scale
    assert found[0].tolist() == torch.cdist(rows, targets.centres[:3]).argmin(1).tolist()


def test_the_first_clusters_along_discriminants(monkeypatch):
    monkeypatch.setattr(discriminants, "CLASSES", 8)
    encoder = MelEncoder(4, 8, (1, 1), 4).eval()
    targets = Clusters(encoder, 4, 4, (3, 5), (GATHER, 3 * GATHER), directions=2)
    found = step(targets, encoder, GATHER + 1)[-1]
    assert found.shape == (2, 2, 6) and targets.directions[:, :2].any() and not targets.directions[:, 2:].any()
    assert not targets.centres[:, 2:].any() and len(set(found.flatten().tolist())) > 1
    later = step(targets, encoder, 2 * GATHER + 1)[-1]  # of latents, which have no discriminants
    assert later is not None and targets.centres[:, 2:4].any()


def test_discriminants_find_what_tells_clusters_apart():
    """Three sounds differ in a direction of little variance; a speaker's direction has a hundred times more."""
    sound = torch.randint(3, (3000,))
    rows = torch.randn(3000, 6) * torch.tensor([0.1, 10.0, 1.0, 1.0, 1.0, 1.0])
    rows[:, 0] += sound
    found = discriminants.discriminants(rows, rows[:, :1], 1, clusters.kmeans)[:, 0]
    weights = found.abs() * rows.std(0)
    assert found.shape == (6,) and weights[0] > 10 * weights[1:].max()
    with pytest.raises(ValueError, match="7 directions of 6"):
        discriminants.discriminants(rows, rows, 7, clusters.kmeans)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_the_encoder_lacks(layer):
    with pytest.raises(UsageError, match=f"2 blocks at positions, and no block {layer}"):
        Clusters(MelEncoder(4, 8, (1, 2), 4), 4, 4, (3,), (GATHER,), layer=layer)


@pytest.mark.parametrize("directions", [-1, 144])
def test_more_discriminants_than_there_are(directions):
    with pytest.raises(UsageError, match="1 to 143"):
        Clusters(MelEncoder(4, 8, (1, 2), 4), 4, 4, (3,), (GATHER,), directions=directions)


def test_latents_and_codes_both_learn_and_the_teacher_does_not():
    targets, encoder = made()
    named = step(targets, encoder, GATHER + 1)[-1]
    z_e, z_q = (torch.randn(2, 4, 6, requires_grad=True) for _ in range(2))
    value = targets.loss(z_e, z_q, named)
    assert 0 < value.item() < 2 * np.log(5) + 3
    value.backward()
    assert z_e.grad.abs().sum() > 0 and z_q.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in targets.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in targets.teacher.parameters())


def test_going_on_from_a_checkpoint_is_going_on():
    straight, encoder = made()
    step(straight, encoder, GATHER // 2)
    resumed = Clusters(encoder, 4, 4, (3, 5), (GATHER,))
    resumed.load_state_dict(straight.state_dict())
    found = []
    for targets in (straight, resumed):
        torch.manual_seed(1)
        found.append(step(targets, encoder, GATHER)[-1])
    assert torch.equal(*found)


def test_masks_hide_about_their_share_in_stretches():
    x = masked(torch.ones(50, 4, 300), 0.3)
    hidden = (x == 0).float()
    assert torch.equal(hidden[:, :1].expand(-1, 4, -1), hidden)
    assert 0.2 < float(hidden.mean()) < 0.35
    assert float((hidden[:, 0, 1:] != hidden[:, 0, :-1]).float().mean()) < 0.06
    assert torch.equal(masked(x, 0.0), x)


@pytest.mark.parametrize(("sizes", "begin"), [((), (64,)), ((3,), ()), ((3,), (10,)), ((3,), (64, 70))])
def test_rounds_that_cannot_be(sizes, begin):
    with pytest.raises(UsageError, match="from step"):
        Clusters(MelEncoder(4, 8, (1, 1), 4), 4, 4, sizes, begin)
