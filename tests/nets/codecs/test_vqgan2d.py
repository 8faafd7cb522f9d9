"""VQGAN against diffusers' VQModel with random weights, from every form of checkpoint."""

import json
import re
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vqcli.errors import ModelError
from vqcli.nets.codecs import vqgan2d
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.zoo import importing

DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
KINDS = {
    # f4 of latent diffusion: few channels in the middle, attention there only
    "f4": {"block_out_channels": (32, 64, 64), "latent_channels": 3},
    # f8: attention in the last level
    "f8": {
        "down_block_types": (DOWN, DOWN, DOWN, f"Attn{DOWN}"),
        "up_block_types": (f"Attn{UP}", UP, UP, UP),
        "block_out_channels": (32, 32, 64, 96),
        "latent_channels": 16,
        "vq_embed_dim": 8,
        "layers_per_block": 2,
    },
    "without attention": {
        "block_out_channels": (16, 32, 48),
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "latent_channels": 8,
    },
    "movq": {
        "down_block_types": (DOWN, f"Attn{DOWN}"),
        "up_block_types": (f"Attn{UP}", UP),
        "block_out_channels": (32, 64),
        "latent_channels": 4,
        "norm_type": "spatial",
    },
}
GRIDS = ((4, 4), (5, 7), (9, 3))
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # names of diffusers


@pytest.fixture(scope="module")
def diffusers():
    """The package, which imports torchaudio where it can; a build of that for another torch would be an error."""
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", None)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(sys.modules, "torchaudio", stub)
        warnings.simplefilter("ignore")
        package = pytest.importorskip("diffusers")
        assert package.VQModel  # loads it
    return package


@pytest.fixture(scope="module", params=list(KINDS))
def reference(request, diffusers):
    return random_model(diffusers, request.param)


@torch.no_grad()
def random_model(diffusers, kind):
    """A VQModel none of whose weights is trivial, and whose latents are near many entries."""
    torch.manual_seed(0)
    depth = len(KINDS[kind]["block_out_channels"])
    blocks = {"down_block_types": (DOWN,) * depth, "up_block_types": (UP,) * depth}
    model = diffusers.VQModel(**blocks | KINDS[kind], num_vq_embeddings=200).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases, and the gains of normalisation
            parameter.add_(0.2 * torch.randn_like(parameter))
    z = model.encode(torch.rand(4, 3, 64, 64) * 2 - 1).latents.movedim(1, -1).flatten(0, 2)
    entries = torch.randn(200, z.shape[1]) @ torch.linalg.cholesky(z.T.cov() + 1e-6 * torch.eye(z.shape[1])).T
    model.quantize.embedding.weight.copy_(entries + z.mean(0))
    return model


def imported(tensors, config=None):
    found = vqgan2d.from_checkpoint(Checkpoint(tensors, config or {}))
    assert found is not None
    net = vqgan2d.VQGAN(**found.arguments).eval().requires_grad_(False)
    net.load_state_dict(found.tensors)
    return found, net


def saved(model, folder):
    model.save_pretrained(folder)
    return load_file(folder / "diffusion_pytorch_model.safetensors"), json.loads((folder / "config.json").read_text())


def as_taming(tensors):
    """Tensors of diffusers as taming-transformers, latent diffusion and the authors of MoVQ name them."""
    last = max(int(match[1]) for match in map(re.compile(r"decoder\.up_blocks\.(\d)").match, tensors) if match)
    found = {}
    for name, tensor in tensors.items():
        name = re.sub(r"decoder\.up_blocks\.(\d)", lambda match: f"decoder.up.{last - int(match[1])}", name)
        for pattern, theirs in (
            (r"down_blocks", "down"),
            (r"mid_block\.resnets\.0", "mid.block_1"),
            (r"mid_block\.resnets\.1", "mid.block_2"),
            (r"mid_block\.attentions\.0", "mid.attn_1"),
            (r"resnets", "block"),
            (r"attentions", "attn"),
            (r"(down|up)samplers\.0", r"\1sample"),
            (r"conv_shortcut", "nin_shortcut"),
            (r"conv_norm_out", "norm_out"),
            (r"(group|spatial)_norm", "norm"),
            (r"to_([qkv])", r"\1"),
            (r"to_out\.0", "proj_out"),
        ):
            name = re.sub(pattern, theirs, name)
        found[name] = tensor[:, :, None, None] if re.search(r"\.(q|k|v|proj_out)\.weight", name) else tensor
    return found


def as_llamagen(tensors):
    """The same as LlamaGen names them, with its record of recent codes."""
    depth = len({name.split(".")[2] for name in tensors if name.startswith("decoder.up_blocks.")})
    found = {"quantize.codebook_used": torch.zeros(300)}
    for name, tensor in as_taming(tensors).items():
        # levels of the decoder in the order in which they follow each other
        name = re.sub(r"\.up\.(\d)", lambda match: f".conv_blocks.{depth - 1 - int(match[1])}", name)
        for pattern, theirs in (
            (r"mid\.block_1", "mid.0"),
            (r"mid\.attn_1", "mid.1"),
            (r"mid\.block_2", "mid.2"),
            (r"\.down\.", ".conv_blocks."),
            (r"\.block\.", ".res."),
        ):
            name = re.sub(pattern, theirs, name)
        found[name] = tensor
    return found


def images(net):
    for rows, columns in GRIDS:
        yield torch.rand(2, 3, rows * net.stride, columns * net.stride) * 2 - 1


def through(reference, x):
    """Latents, codes [B, h, w] and the decoded images of a reference."""
    z = reference.encode(x).latents
    return z, reference.quantize(z)[2][2].view(z.shape[0], *z.shape[2:]), reference.decode(z).sample


def check_equal(net, x, z, codes, image):
    """Latents, codes and images are those of the reference."""
    z_e = net.latents(x)
    assert torch.allclose(z_e, z, atol=1e-5, rtol=1e-4)
    assert (net.quantize(z_e)[:, 0] == codes).float().mean() >= 0.999
    assert len(codes.unique()) > 20
    assert (net.decode(codes[:, None]) - image).abs().max() < 1e-4 * image.abs().max()


@torch.no_grad()
def test_it_is_the_net_of_diffusers(reference, tmp_path):
    _, net = imported(*saved(reference, tmp_path))
    assert net.stride == 2 ** (len(reference.config.block_out_channels) - 1)
    assert net.encoder_margin is net.decoder_margin is None
    for x in images(net):
        check_equal(net, x, *through(reference, x))


def test_all_forms_are_one_model(reference, tmp_path):
    tensors, config = saved(reference, tmp_path)
    found, _ = imported(tensors, config)
    older = {
        re.sub(r"to_q|to_k|to_v|to_out\.0", lambda match: OLD[match[0]], name): part for name, part in tensors.items()
    }
    theirs = as_taming(tensors)
    training = {
        "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4),
        "loss.perceptual_loss.net.slice1.0.weight": torch.zeros(4, 3, 3, 3),
        "model_ema.num_updates": torch.tensor(3),
        "quantize.embedding.cluster_size": torch.zeros(200),
        "quantize.used": torch.arange(200),
    }
    whole = {f"first_stage_model.{name}": part for name, part in theirs.items()}
    yaml = {"embed_dim": 4, "ddconfig": {"double_z": False, "attn_resolutions": [16]}, "lossconfig": {}}
    if reference.config.norm_num_groups != 32:  # which the others always have
        yaml["norm_num_groups"] = reference.config.norm_num_groups
    forms = [(older, config), (theirs | training, yaml), (whole | {"model.diffusion_model.out": torch.zeros(1)}, yaml)]
    for tensors, config in forms:
        other, _ = imported(tensors, config)
        assert other.arguments == found.arguments and other.tensors.keys() == found.tensors.keys()
        assert all(torch.equal(part, other.tensors[name]) for name, part in found.tensors.items())
    assert ("MoVQ" in found.citation) == found.arguments["spatial"]


@torch.no_grad()
def test_llamagen_compares_directions(diffusers):
    reference = random_model(diffusers, "f8")
    found, net = imported(as_llamagen(reference.state_dict()))
    assert found.arguments["quantizer"] == "cosine" and "Llama" in found.citation
    entries = F.normalize(reference.quantize.embedding.weight)
    for x in images(net):
        z = reference.encode(x).latents
        codes = torch.einsum("bdhw,kd->bkhw", F.normalize(z), entries).argmax(1)
        image = reference.decode(entries[codes].movedim(-1, 1), force_not_quantize=True).sample
        check_equal(net, x, z, codes, image)


@torch.no_grad()
def test_gumbel_takes_the_likeliest(diffusers):
    reference = random_model(diffusers, "f8")
    tensors = as_taming(reference.state_dict())
    entries = tensors.pop("quantize.embedding.weight")
    logits = {  # those of a mixture of normal distributions around the entries, where the nearest is the likeliest
        "quantize.embed.weight": entries,
        "quantize.proj.weight": entries[:, :, None, None],
        "quantize.proj.bias": -entries.square().sum(1) / 2,
    }
    found, net = imported(tensors | logits)
    assert found.arguments["quantizer"] == "logits"
    for x in images(net):
        check_equal(net, x, *through(reference, x))


@pytest.fixture(scope="module")
def small(diffusers):
    """Tensors and configuration of a model with one level of attention."""
    model = diffusers.VQModel(
        down_block_types=(DOWN, f"Attn{DOWN}"),
        up_block_types=(f"Attn{UP}", UP),
        block_out_channels=(4, 8),
        norm_num_groups=2,
        num_vq_embeddings=16,
    )
    return model.state_dict(), dict(model.config) | {"_class_name": "VQModel"}


DAMAGES = (
    lambda part: None,
    lambda part: part[None],
    lambda part: part[:0],
    lambda part: torch.cat([part, part], -1),
)


def opened(tensors, config):
    """As `vq models import` does, which compares the tensors with the net that the family asks for."""
    return importing.checked(*importing.recognised(Checkpoint(tensors, config), "a test"))


def test_damaged_tensors_are_refused(small):
    tensors, config = small
    telling = [name for name in tensors if re.search(r"conv_in|conv_out|resnets.0.conv1|embedding", name)]
    damaged = [(name, damage) for name in telling for damage in DAMAGES]
    damaged += [(name, DAMAGES[number % 4]) for number, name in enumerate(list(tensors)[::5])]
    for name, damage in damaged:
        kept = {other: part for other, part in tensors.items() if other != name}
        if (part := damage(tensors[name])) is not None:
            kept[name] = part
        with pytest.raises(ModelError):
            opened(kept, config)
    with pytest.raises(ModelError, match=r"do not fit a vqgan2d: encoder\.middle"):
        opened(tensors | {"encoder.mid.attn_1.to_qkv.weight": torch.zeros(4, 8)}, config)
    with pytest.raises(ModelError, match="lacks codebook"):
        vqgan2d.from_checkpoint(Checkpoint({}, config))


@pytest.mark.parametrize(
    "given", [{"norm_num_groups": 3}, {"norm_num_groups": 0}, {"norm_num_groups": "x"}, {"act_fn": "relu"}]
)
def test_odd_configurations_are_refused(small, given):
    tensors, config = small
    with pytest.raises(ModelError):
        opened(tensors, config | given)


def test_what_tensors_do_not_tell_is_refused(small):
    tensors = as_taming(small[0])
    with pytest.raises(ModelError, match="tanh_out"):
        vqgan2d.from_checkpoint(Checkpoint(tensors, {"norm_num_groups": 2, "ddconfig": {"tanh_out": True}}))
    large = tensors | {"quantize.embedding.weight": torch.zeros(2**18 + 1, 3)}
    with pytest.raises(ModelError, match="262,144 codes"):
        vqgan2d.from_checkpoint(Checkpoint(large, {"norm_num_groups": 2}))


def test_other_models_are_not_its_own(small):
    tensors, config = small
    continuous = {name: part for name, part in tensors.items() if not name.startswith("quantize.")}
    for others, about in ((continuous, {}), (tensors, config | {"_class_name": "AutoencoderKL"}), ({}, {})):
        assert vqgan2d.from_checkpoint(Checkpoint(others, about)) is None


@pytest.fixture(scope="module")
@torch.no_grad()
def janus():
    """Janus' of transformers. Its encoder compares entries as they are, its decoder takes their directions: one and the
    same for entries of length 1, which these are."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
        config = transformers.JanusVQVAEConfig(
            base_channels=32, channel_multiplier=[1, 2, 3], num_res_blocks=1, latent_channels=16, num_embeddings=200
        )
        model = transformers.JanusVQVAE(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    z = model.quant_conv(model.encoder(torch.rand(4, 3, 64, 64) * 2 - 1)).movedim(1, -1).flatten(0, 2)
    model.quantize.embedding.weight.copy_(F.normalize(z[torch.randperm(len(z))[:200]]))
    return model


@torch.no_grad()
def test_janus_is_that_of_transformers(janus, tmp_path):
    janus.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    found, net = imported(tensors, json.loads((tmp_path / "config.json").read_text()))
    assert found.arguments["quantizer"] == "cosine" and net.stride == 4
    for x in images(net):
        h, w = (side // net.stride for side in x.shape[2:])
        janus.quantize.quant_state_dims = [h, w]
        z = janus.quant_conv(janus.encoder(x))
        codes = janus.encode(x).image_tokens.view(len(x), -1)
        check_equal(net, x, z, codes.view(-1, h, w), janus.decode(codes))
    longer = dict(tensors) | {"quantize.embedding.weight": 4 * tensors["quantize.embedding.weight"]}
    assert torch.equal(imported(longer)[1].decode(codes.view(-1, 1, h, w)), net.decode(codes.view(-1, 1, h, w)))


def test_janus_within_its_model(janus):
    tensors = janus.state_dict()
    found, _ = imported(tensors)
    others = {"model.vision_model.encoder.layers.0.norm.weight": torch.zeros(3), "lm_head.weight": torch.zeros(3, 3)}
    authors = {  # LlamaGen's names
        re.sub(
            r"(encoder|decoder)\.(down|up)\.", r"\1.conv_blocks.",
            re.sub(r"\.block\.", ".res.", re.sub(r"mid\.block_1", "mid.0", re.sub(r"mid\.block_2", "mid.2", name))),
        ).replace("mid.attn_1", "mid.1"): part
        for name, part in tensors.items()
    }  # fmt: skip
    for prefix, parts in (("model.vqmodel.", tensors), ("vqmodel.", tensors), ("gen_vision_model.", authors)):
        inside, _ = imported({prefix + name: part for name, part in parts.items()} | others, {"model_type": "janus"})
        assert inside.arguments == found.arguments and inside.tensors.keys() == found.tensors.keys()
        assert all(torch.equal(part, inside.tensors[name]) for name, part in found.tensors.items())


def test_an_encoder_alone_is_refused(small):
    """Of Chameleon, transformers has no more."""
    parts = {f"model.vqmodel.{name}": part for name, part in as_taming(small[0]).items() if "decoder." not in name}
    with pytest.raises(ModelError, match="encoder alone"):
        vqgan2d.from_checkpoint(Checkpoint(parts, {"model_type": "chameleon"}))
