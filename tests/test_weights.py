import pytest
import torch

from vqcli import weights


def test_sixteen_bits_unless_asked():
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    packed = weights.packed(tensors)
    assert {tensor.dtype for tensor in packed.values()} == {torch.float16}
    again = weights.unpacked(packed)
    assert all(torch.equal(again[name], tensors[name].half().float()) for name in tensors)


def test_matrices_of_the_named_parts_take_eight_bits():
    tensors = {"decoder.w": torch.randn(6, 3, 5), "decoder.bias": torch.randn(6), "encoder.w": torch.randn(6, 3)}
    packed = weights.packed(tensors, ["decoder"])
    assert packed["decoder.w"].dtype == torch.int8 and packed["decoder.bias"].dtype == torch.float16
    assert packed["encoder.w"].dtype == torch.float16
    again = weights.unpacked(packed)
    assert again.keys() == tensors.keys()
    steps = tensors["decoder.w"].flatten(1).abs().amax(1) / 127
    error = (again["decoder.w"] - tensors["decoder.w"]).flatten(1).abs().amax(1)
    assert (error <= 0.51 * steps + 1e-3 * steps).all()


def test_packing_what_was_unpacked_changes_nothing():
    once = weights.packed({"w": torch.randn(4, 9)}, ["w"])
    twice = weights.packed(weights.unpacked(once), ["w"])
    assert torch.equal(once["w"], twice["w"]) and torch.equal(once["w.scale"], twice["w.scale"])


def test_rows_of_zeros_stay_zero():
    assert not weights.unpacked(weights.packed({"w": torch.zeros(2, 3)}, ["w"]))["w"].any()


def test_a_scale_of_another_size_is_refused():
    packed = weights.packed({"w": torch.randn(4, 9)}, ["w"])
    with pytest.raises(ValueError, match="scale"):
        weights.unpacked(packed | {"w.scale": torch.ones(3)})
