"""DAC beside the authors' own and transformers', with random weights."""

import sys
import warnings
from importlib import import_module
from unittest.mock import MagicMock

import pytest
import torch

from vqcli.errors import ModelError
from vqcli.nets.codecs import base, dac
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.zoo import importing

STRIDES = [2, 3, 5]  # odd ones leave samples open at the end
HOP, RATE_HZ = 30, 3000
LENGTHS = (3000, 4567, 31)  # whole positions, a part of one, hardly more than one
CPU = torch.device("cpu")


class BaseModel(torch.nn.Module):
    """What the authors' net takes from audiotools."""

    INTERN, EXTERN = [], []


@pytest.fixture(scope="module")
def authors():
    pytest.importorskip("einops")
    tools = MagicMock()
    tools.ml.BaseModel = BaseModel
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        for name, module in {"argbind": MagicMock(), "audiotools": tools, "audiotools.ml": tools.ml}.items():
            patch.setitem(sys.modules, name, module)
        pytest.importorskip("dac")
        torch.manual_seed(0)
        sizes = {"encoder_dim": 8, "decoder_dim": 64, "n_codebooks": 6, "codebook_size": 64}
        net = import_module("dac.model.dac").DAC(
            **sizes, encoder_rates=STRIDES, decoder_rates=STRIDES[::-1], latent_dim=24, sample_rate=RATE_HZ
        )
    return lively(net.eval())


@pytest.fixture(scope="module")
def library():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.DacConfig(
        encoder_hidden_size=8,
        decoder_hidden_size=64,
        downsampling_ratios=STRIDES,
        n_codebooks=6,
        codebook_size=64,
        sampling_rate=RATE_HZ,
    )
    return lively(transformers.DacModel(config).eval())


@torch.no_grad()
def lively(net):
    """Activations that differ, and codebooks that lie where the latents do, so that many codes occur."""
    for name, module in net.named_modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)) and not hasattr(module, "weight_g"):
            module.reset_parameters()
        if name.rpartition(".")[2] != "quantizers" and hasattr(module, "alpha"):
            module.alpha.uniform_(0.5, 2)
    residual = net.encoder(wave(100 * HOP))
    for level in net.quantizer.quantizers:
        z_e = level.in_proj(residual)[0].T
        level.codebook.weight.copy_(z_e.mean(0) + z_e.std(0) * torch.randn_like(level.codebook.weight))
        residual = residual - level(residual)[0]
    return net


def wave(N):
    return 0.1 * torch.randn(1, 1, N, generator=torch.Generator().manual_seed(N))


def whole(N):
    """The same, with zeros up to a whole position."""
    return torch.nn.functional.pad(wave(N), (0, -N % HOP))


def made_from(tensors, config=None):
    found = dac.from_checkpoint(Checkpoint(tensors, config or {}))
    net = dac.Dac(**found.arguments).eval()
    net.load_state_dict(found.tensors)
    return net


@pytest.fixture(scope="module")
def net(authors):
    return made_from(authors.state_dict(), {"sample_rate": RATE_HZ})


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_authors(authors, net, N):
    codes = authors.encode(whole(N))[1]
    assert N < HOP * 50 or all(len(plane.unique()) > 20 for plane in codes[0])
    assert torch.equal(net.encode(wave(N)), codes)
    for k in (1, 6):
        expected = authors.decode(authors.quantizer.from_codes(codes[:, :k])[0])
        assert expected.std() > 0.01 and expected.shape[2] < codes.shape[2] * HOP
        decoded = net.decode(codes[:, :k])
        assert decoded.shape == (1, 1, codes.shape[2] * HOP)
        assert torch.allclose(decoded[..., : expected.shape[2]], expected, atol=1e-6)
        assert not decoded[..., expected.shape[2] :].any()


@torch.inference_mode()
def test_windows_alone_equal_the_authors_without_padding(authors, net):
    codes = torch.randint(64, (2, 6, 90), generator=torch.Generator().manual_seed(0))
    authors.padding = False
    try:
        expected = authors.decode(authors.quantizer.from_codes(codes)[0])
    finally:
        authors.padding = True
    assert net.samples_of(90, alone=True) == expected.shape[2] > 0 == net.samples_of(2, alone=True)
    assert torch.allclose(net.decode_alone(codes), expected, atol=1e-6)
    assert net.samples_of(90, alone=False) == authors.decode(authors.quantizer.from_codes(codes)[0]).shape[2]


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_transformers(library, N):
    net = made_from(library.state_dict(), library.config.to_dict())
    codes = library.encode(whole(N)).audio_codes
    assert (net.encode(wave(N)) == codes).float().mean() > 0.999  # ties are rounded in another order there
    expected = library.decode(audio_codes=codes).audio_values
    assert expected.std() > 0.01
    assert torch.allclose(net.decode(codes)[:, 0, : expected.shape[1]], expected, atol=1e-6)


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_windows_give_what_the_whole_gives(net, N, monkeypatch):
    monkeypatch.setattr(base, "WINDOW_S", 0.4)  # 40 positions
    codes = net.encode(wave(N))
    in_parts = torch.cat(list(net.encode_windows(wave(N)[0, 0].numpy(), base.Analysis(b""), CPU)), 1)
    assert in_parts.shape == codes[0].shape
    assert (in_parts == codes[0]).float().mean() > 0.999
    P = codes.shape[2]
    assert torch.allclose(torch.cat(list(net.decode_parts(codes, (0, P), CPU, 0)), 2), net.decode(codes), atol=1e-6)


@torch.inference_mode()
def test_a_part_from_the_middle_and_one_at_the_end(net):
    codes = torch.randint(64, (1, 6, 200))
    expected = net.decode(codes)
    for start, stop in ((90, 103), (180, 200), (199, 200)):
        part = torch.cat(list(net.decode_parts(codes, (start, stop), CPU, 0)), 2)
        assert torch.allclose(part, expected[..., start * HOP : stop * HOP], atol=1e-6)


def test_margins_are_what_the_layers_reach(net):
    at, P = 40, 80
    x = wave(P * HOP).requires_grad_()
    net.encoder(x)[..., at].sum().backward()
    reached = x.grad.view(P, HOP).any(1).nonzero()
    assert max(at - reached.min(), reached.max() - at) == net.encoder_margin
    z_q = torch.randn(1, 24, P, requires_grad=True)
    net.decoder(z_q)[..., at * HOP : (at + 1) * HOP].sum().backward()
    reached = z_q.grad[0].any(0).nonzero()
    assert max(at - reached.min(), reached.max() - at) == net.decoder_margin


def test_every_form_gives_the_same_weights(library):
    """transformers' names with weight norm; the authors' names, as published; ours."""
    library.apply_weight_norm()
    here = dac.from_checkpoint(Checkpoint(library.state_dict(), library.config.to_dict()))
    assert here.arguments["normed"] and here.arguments["strides"] == STRIDES
    published = {as_published(name): tensor for name, tensor in here.tensors.items()}
    assert {"encoder.block.1.block.0.block.1.weight_v", "decoder.model.1.block.2.block.0.alpha"} <= published.keys()
    for tensors in (published, here.tensors):
        there = dac.from_checkpoint(Checkpoint(tensors, {"sample_rate": RATE_HZ}))
        assert there.arguments == here.arguments and there.tensors.keys() == here.tensors.keys()
        assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)
    dac.Dac(**here.arguments).load_state_dict(here.tensors)


def as_published(name):
    """A name of ours as the authors' files have it."""
    side, *path = name.split(".")
    if side in ("encoder", "decoder"):
        numbers = [part for part in path if part.isdecimal()]
        first = "block" if side == "encoder" else "model"
        path = [first, ".block.".join(numbers), *path[len(numbers) :]]
    name = ".".join([side, *path])
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


@pytest.mark.parametrize(("codebooks", "last", "rate_hz"), [(12, 5, 16_000), (32, 5, 24_000), (9, 8, 44_100)])
def test_released_models_are_known_without_a_configuration(codebooks, last, rate_hz):
    net = dac.Dac(width=1, decoder_width=16, strides=(2, 4, last, 8), codebooks=codebooks, K=2)
    assert dac.from_checkpoint(Checkpoint(net.state_dict())).arguments["rate_hz"] == rate_hz


@pytest.mark.parametrize(
    ("said", "rate_hz"), [("48000", 48_000), (None, None), ("fast", None), ("9" * 5000, None), (-1, None), ([1], None)]
)
def test_rates_as_configurations_say_them(net, said, rate_hz):
    checkpoint = Checkpoint(net.state_dict(), {"model_type": "dac", "sampling_rate": said})
    if rate_hz:
        assert dac.from_checkpoint(checkpoint).arguments["rate_hz"] == rate_hz
    else:
        with pytest.raises(ModelError, match="sampling rate"):
            dac.from_checkpoint(checkpoint)


def test_what_it_is_not(net):
    assert dac.from_checkpoint(Checkpoint({"encoder.weight": torch.zeros(2)})) is None
    assert dac.from_checkpoint(Checkpoint(net.state_dict(), {"model_type": "mimi"})) is None


@pytest.mark.parametrize("window", [None, 4])
def test_it_is_no_snac(window):
    snac = pytest.importorskip("snac")
    model = snac.SNAC(
        encoder_dim=4, encoder_rates=[2, 3], decoder_dim=16, decoder_rates=[3, 2], attn_window_size=window
    )
    assert dac.from_checkpoint(Checkpoint(model.state_dict(), {"sampling_rate": 24_000})) is None


@pytest.mark.parametrize("damage", [None, torch.zeros(3), torch.zeros(0, 1, 7), torch.zeros(1, 3, 1)])
def test_a_damaged_checkpoint_is_refused(damage):
    """Whichever tensor it is: as none of DAC, as not complete, or as one that does not fit the net."""
    net = dac.Dac(width=2, decoder_width=8, strides=(2,), codebooks=2, K=4, normed=False)
    for gone in net.state_dict():
        tensors = {name: tensor for name, tensor in net.state_dict().items() if name != gone}
        tensors |= {gone: damage} if damage is not None else {}
        with pytest.raises(ModelError) as caught:
            importing.checked(*importing.recognised(Checkpoint(tensors, {"sampling_rate": RATE_HZ}), "here"))
        assert "\n" not in f"{caught.value}{caught.value.hint}"
