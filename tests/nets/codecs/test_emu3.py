"""Emu3's tokenizer of images against transformers' with random weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqcli.errors import ModelError
from vqcli.nets.codecs import emu3, vqgan2d
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.zoo import importing, store

SIZES = {
    "codebook_size": 200,
    "base_channels": 32,
    "channel_multiplier": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [1],
    "hidden_size": 64,
}
GRIDS = ((4, 4), (5, 7), (9, 3))


@pytest.fixture(scope="module")
@torch.no_grad()
def reference():
    """One none of whose weights is trivial, and whose latents are near many entries."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
        model = transformers.Emu3VQVAE(transformers.Emu3VQVAEConfig(**SIZES)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases, and the gains of normalisation
            parameter.add_(0.2 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    z = latents(model, torch.rand(4, 3, 64, 64) * 2 - 1).movedim(1, -1).flatten(0, 2)
    entries = torch.randn(200, z.shape[1]) @ torch.linalg.cholesky(z.T.cov() + 1e-6 * torch.eye(z.shape[1])).T
    model.quantize.embedding.weight.copy_(entries + z.mean(0))
    return model


def latents(model, x):
    """[B, dim, h, w] of images."""
    frames = x[:, None].expand(-1, model.config.temporal_downsample_factor, -1, -1, -1)
    return model.quant_conv(model.encoder(frames).movedim(1, 2))[:, :, 0]


def imported(tensors, config=None):
    found = emu3.from_checkpoint(Checkpoint(tensors, config or {}))
    assert found is not None
    return found, importing.checked("emu3", found).requires_grad_(False)


@torch.no_grad()
def test_it_is_the_net_of_transformers(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    _, net = imported(tensors, json.loads((tmp_path / "config.json").read_text()))
    assert net.stride == 2 and net.encoder_margin is net.decoder_margin is None
    for rows, columns in GRIDS:
        x = torch.rand(2, 3, 2 * rows, 2 * columns) * 2 - 1
        codes = torch.stack(reference.encode(x, image_sizes=[x.shape[2:]] * 2).image_tokens)
        z_e = net.latents(x)
        assert torch.allclose(z_e, latents(reference, x), atol=1e-5, rtol=1e-4)
        assert (net.quantize(z_e)[:, 0] == codes).float().mean() >= 0.999
        assert len(codes.unique()) > 20
        image = reference.decode(codes)
        assert (net.decode(codes[:, None]) - image).abs().max() < 1e-4 * image.abs().max()


def test_a_whole_model_has_the_same_net(reference, tmp_path, monkeypatch):
    tensors = {name: part.contiguous() for name, part in reference.state_dict().items()}
    whole = {f"model.vqmodel.{name}": part for name, part in tensors.items()}
    whole |= {"model.text_model.norm.weight": torch.zeros(3), "lm_head.weight": torch.zeros(3, 3)}
    alone, inside = (imported(some)[0] for some in (tensors, whole))
    assert alone.arguments == inside.arguments and alone.tensors.keys() == inside.tensors.keys()
    assert all(torch.equal(part, inside.tensors[name]) for name, part in alone.tensors.items())
    save_file(whole, tmp_path / "model.safetensors")
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "models")
    info = importing.import_model(importing.source_of(str(tmp_path)), "emu3-small")
    assert info.description["family"] == "emu3" and "Emu3" in (info.folder / "README.md").read_text()


def test_what_it_has_not_is_refused(reference):
    tensors = reference.state_dict()
    with pytest.raises(ModelError, match="one head"):
        imported(tensors, {"num_attention_heads": 2})
    with pytest.raises(ModelError, match="262,144"):
        imported(tensors | {"quantize.embedding.weight": torch.zeros(2**18 + 1, 4)})
    with pytest.raises(ModelError):
        imported(tensors | {"quantize.embedding.weight": torch.zeros(200, 5)})
    for name in ("encoder.time_conv.1.conv.conv.weight", "decoder.conv_in.weight", "encoder.conv_in.weight"):
        with pytest.raises(ModelError):
            imported({other: part for other, part in tensors.items() if other != name})
    assert vqgan2d.from_checkpoint(Checkpoint(tensors)) is None
    assert emu3.from_checkpoint(Checkpoint({"encoder.conv_in.weight": torch.zeros(1)})) is None
