import numpy as np
import pytest

from vqcli.entropy.coders import Given, packed
from vqcli.errors import BadFile


def test_literal_bytes():
    # K = 5 takes 3 bits, K = 2 takes 1: 001 100 010 | 1 0 1 | 4 zero bits
    codes = np.array([[[1, 4, 2]], [[1, 0, 1]]])
    data = packed.encode(codes, Given([5, 2]))
    assert data == bytes([0b00110001, 0b01010000])
    assert np.array_equal(packed.decode(data, (2, 1, 3), Given([5, 2])), codes)


def test_widest_codes_are_big_endian_words():
    codes = np.array([[0, 1, 256, 65535]])
    assert packed.encode(codes, Given([65536])) == bytes.fromhex("0000 0001 0100 ffff")


@pytest.mark.parametrize(("K", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (512, 9), (513, 10), (65536, 16)])
def test_bits_per_code(K, bits):
    assert packed.bits_per_code(K) == bits


@pytest.mark.parametrize("grid", [(1,), (3,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("sizes", [[2], [512], [3, 100, 65536]])
def test_size_formula(sizes, grid):
    shape = (len(sizes), *grid)
    bits = np.prod(grid) * sum(np.ceil(np.log2(sizes)).astype(int))
    assert packed.size_bytes(shape, sizes) == -(-bits // 8)
    assert len(packed.encode(np.zeros(shape, np.uint16), Given(sizes))) == packed.size_bytes(shape, sizes)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"\0", "1 bytes"),
        (b"\0\0\0", "3 bytes"),
        (bytes([0b10100000, 0]), "beyond"),  # the first code is 5 of K = 5
        (bytes([0b00000011, 0b10000000]), "beyond"),  # the third is 7
        (bytes([0, 1]), "stray"),
        (bytes([0, 0b00001000]), "stray"),
    ],
)
def test_what_is_not_packed_codes_is_a_bad_file(data, reason):
    with pytest.raises(BadFile, match=reason):
        packed.decode(data, (2, 1, 3), Given([5, 2]))
