from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from vqcli.container.crc import combined


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_texts_one_behind_the_other(a, b):
    assert combined(crc32(a), crc32(b), len(b)) == crc32(a + b)


def test_long_texts():
    a, b = bytes(range(256)) * 1000, b"\0" * 1_000_003
    assert combined(crc32(a), crc32(b), len(b)) == crc32(a + b)
