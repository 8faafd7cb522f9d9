import pytest
import torch

from vqcli.media import mel, pitch, voice
from vqcli.nets.codecs.speech import SpeechVQVAE, excitation
from vqcli.nets.codecs.vqvae1d import WaveVQVAE
from vqcli.nets.layers.quantizer import jitter

TINY = {"K": 16, "dim": 8, "width": 16, "blocks": (1, 1), "decoder_width": 16, "decoder_blocks": 1, "speakers": 3}


def profile(B):
    flat = torch.zeros(B, voice.SIZE)
    flat[:, mel.BANDS : 2 * mel.BANDS] = 1
    flat[:, -3] = voice.USUAL_LOG_HZ
    return flat


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = SpeechVQVAE(**TINY)
    made.train()
    f0, _ = excitation(torch.zeros(4, 20, dtype=torch.int64))
    z_e = made.latents(torch.randn(4, 6400) * 0.05, profile(4))
    made(z_e, f0, made.levels, made.voice_of_profile(profile(4)))
    return made.eval()


@pytest.mark.parametrize(("frames", "levels"), [(2, 1), (2, 3), (4, 2)])
def test_groups_are_words_pitch_and_residuals(frames, levels):
    net = SpeechVQVAE(**TINY, frames=frames, levels=levels)
    P = 6
    codes = net.encode(torch.randn(2, P * net.stride) * 0.05, profile(2), torch.arange(P * frames // 2).repeat(2, 1))
    assert codes.shape == (2, len(net.codebook_sizes), P)
    assert len(net.codebook_sizes) == levels * net.groups_of_level
    assert net.codebook_sizes[: 1 + frames // 2] == (16, *(pitch.PITCHES,) * (frames // 2))
    _, tones = net.split(codes[:, : net.groups_of_level])
    assert torch.equal(tones, torch.arange(P * frames // 2).repeat(2, 1))


def test_fewer_levels_are_the_first_codebooks(net):
    codes = net.encode(torch.randn(1, 3200) * 0.05, profile(1), torch.zeros(1, 10))
    z_1, _ = net.split(codes[:, :2])
    z_3, _ = net.split(codes)
    assert torch.allclose(z_1, net.quantizer.lookup(codes[:, :1]))
    assert not torch.allclose(z_1, z_3)


def test_codes_of_a_window_are_those_of_the_whole(net):
    wave, P = torch.randn(1, 320 * 80) * 0.05, 80
    whole = net.encode(wave, profile(1), torch.zeros(1, P))
    margin = net.encoder_margin
    first, last = 30, 40
    part = wave[:, (first - margin) * 320 : (last + margin) * 320]
    codes = net.encode(part, profile(1), torch.zeros(1, last - first + 2 * margin))
    assert torch.equal(codes[:, :, margin:-margin], whole[:, :, first:last])


def test_a_profile_suggests_a_voice_that_four_bits_hold(net):
    values, register = net.voice_of_profile(profile(2) + torch.randn(2, voice.SIZE) * 0.1)
    steps = (values + 1) / 2 * 15
    assert torch.allclose(steps, steps.round(), atol=1e-5)
    assert register.shape == (2,)


def test_jitter_takes_neighbours_and_nothing_else():
    torch.manual_seed(0)
    z = torch.arange(50.0).view(1, 1, 50)
    moved = jitter(z, 0.4) - z
    assert set(moved.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert jitter(z, 0.0) is z


def test_every_part_learns(net):
    net.train()
    pitch_codes = torch.randint(0, pitch.PITCHES, (4, 20))
    f0, phases = excitation(pitch_codes)
    speaker = torch.tensor([0, 1, 2, 0])
    guess, _ = net.voice_of_profile(profile(4))
    row, register = net.voice_of_speaker(speaker)
    heard = net.spectra_of(torch.randn(4, 6400) * 0.05, profile(4), torch.tensor([0, 7, 14, 3]))
    envelopes, z_q, quantized = net(net.encoder(heard), f0, 3, (guess + row, register))
    wave = net.decoder.render(*envelopes, f0, phases, torch.randn(4, 6400))
    (wave.square().mean() + z_q.square().mean() + quantized.losses["commitment"]).backward()
    silent = [name for name, weight in net.named_parameters() if weight.requires_grad and weight.grad is None]
    assert silent == []


@pytest.mark.parametrize("strides", [(2,) * 6, (2,) * 7, (2, 2, 2, 2, 2, 2, 2, 5)])
def test_the_paper_s_encoder_and_its_variants(strides):
    torch.manual_seed(0)
    net = WaveVQVAE(
        K=8, dim=4, strides=strides, width=6, speakers=2, wavenet={"residual": 4, "skip": 4, "layers_per_cycle": 3}
    )
    assert net.stride in (64, 128, 640)
    wave = torch.rand(2, net.stride * 12) - 0.5
    assert net.encode(wave).shape == (2, 1, 12)
    nats, quantized = net(wave, torch.tensor([0, 1]))
    (nats + quantized.losses["commitment"]).backward()
    assert all(weight.grad is not None for weight in net.parameters() if weight.requires_grad)
    margin = net.encoder_margin
    part = wave[:, net.stride * (6 - margin) : net.stride * (7 + margin)]
    assert torch.equal(net.eval().encode(part)[:, :, margin], net.encode(wave)[:, :, 6])
