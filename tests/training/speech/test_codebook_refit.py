"""What settling may change, and what it may not."""

import pytest
import torch

from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.training.speech import codebook_refit
from vqcli.zoo import registry

ARGUMENTS = {"K": 8, "dim": 4, "width": 8, "frames": 4, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1}


@pytest.fixture
def clips(clips_folder):
    return Utterances([clips_folder], held_out=False)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(codebook_refit, "CROPS", 32)


def net(**arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return registry.build("speech", {**ARGUMENTS, "levels": 1, **arguments}).eval()


@torch.no_grad()
def test_latents_are_the_same_but_for_their_directions(clips):
    model, before = net(), net()
    codebook_refit.refit_codebook(model, clips)
    batch = clips.batch(codebook_refit.Data(batch=4, seconds=1.0), 1, 0, 4)
    samples, profile = torch.from_numpy(batch.samples), torch.from_numpy(batch.profile)
    old, new = before.latents(samples, profile), model.latents(samples, profile)
    assert not torch.allclose(old, new, atol=1e-2)
    # the decoder hears what it heard
    heard, hears = before.decoder.latent(old.transpose(1, 2)), model.decoder.latent(new.transpose(1, 2))
    assert torch.allclose(heard, hears, atol=1e-4)


@torch.no_grad()
def test_all_codes_are_used_and_spreads_are_nearer(clips):
    model, before = net(), net()
    codebook_refit.refit_codebook(model, clips)
    batch = clips.batch(codebook_refit.Data(batch=32, seconds=3.04), 0, 0, 32)
    samples, profile = torch.from_numpy(batch.samples), torch.from_numpy(batch.profile)
    z = model.latents(samples, profile)
    assert model.quantizer.codes(z).unique().numel() == 8
    old, new = (torch.linalg.eigvalsh(torch.cov(m.transpose(1, 2).flatten(0, 1).T))
                for m in (before.latents(samples, profile), z))  # fmt: skip
    assert new[-1] / new[0] < old[-1] / old[0]
    assert new[-1] / new[0] == pytest.approx(float((old[-1] / old[0]).sqrt()), rel=0.05)


def test_twice_is_the_same(clips):
    first, second = net(), net()
    codebook_refit.refit_codebook(first, clips)
    codebook_refit.refit_codebook(second, clips)
    assert torch.equal(first.quantizer.codebook, second.quantizer.codebook)


def test_residual_levels_stay(clips):
    with pytest.raises(UsageError):
        codebook_refit.refit_codebook(net(levels=2), clips)
