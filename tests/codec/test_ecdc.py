"""Files of EnCodec's own program, beside one that it has written."""

import json

import numpy as np
import pytest

from vqcli.codec import ecdc
from vqcli.errors import BadFile, UsageError

# written by encodec 0.1.1 from a net with random weights, 12,077 samples at 3 kbit/s
FILE = bytes.fromhex(
    "4543444300000000397b226d223a2022656e636f6465635f32346b687a222c2022616c223a2031323037372c20226e63223a20342c20"
    "226c6d223a2066616c73657d22c57aa9e822c52af40debcbd83b1ae055513e9bc1bd69129b11189e2f9b10d605294f10bafbfc46bce2"
    "0852a48a4222de4abf715dd2be8a4eb457e68ada7240248a5ec59f038a5e650d1da31863180b8aa2397f558ae2206e538a4e048b9031"
    "414fb7208ada128c3a8af6cadfae8a428287598ace9bea4d8a4e64766b8a42f2041d8a4ea4d7638a42f2c44a8a5e650d1d8a4ea4d72a"
    "163ccb56da8a76296e998a4e942ca58a5e45ee8b8a4e6476758a966a36fc8a4292da4a8a766976eb"
)
FIRST, LAST = [290, 689, 663, 930], [650, 605, 870, 941]  # codes that encodec says it holds
SUM = 74902


def changed(**fields):
    length = int.from_bytes(FILE[5:9], "big")
    header = json.dumps(json.loads(FILE[9 : 9 + length]) | fields).encode()
    return FILE[:5] + len(header).to_bytes(4, "big") + header + FILE[9 + length :]


def test_codes_are_those_of_encodec():
    codes, samples = ecdc.read(FILE)
    assert codes.shape == (4, 38) and samples == 12_077
    assert codes[:, 0].tolist() == FIRST and codes[:, -1].tolist() == LAST and int(codes.sum()) == SUM


def test_it_writes_the_same_bytes():
    assert ecdc.write(*ecdc.read(FILE)) == FILE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no .ecdc"),
        (b"RIFF" + FILE[4:], "no .ecdc"),
        (FILE[:30], "damaged"),
        (FILE[:-1], "cut or damaged"),
        (FILE + b"0", "cut or damaged"),
        (FILE[:4] + b"\x01" + FILE[5:], "another version"),
        (FILE[:5] + b"\xff" * 4 + FILE[9:], "another version"),
        (changed(lm=True), "language model"),
        (changed(m="encodec_48khz"), "48khz"),
        (changed(al=10**12), "not what"),
        (changed(al=-1), "not what"),
        (changed(al=True), "damaged"),
        (changed(nc=0), "not what"),
        (changed(nc="4"), "damaged"),
    ],
)
def test_what_it_refuses(data, words):
    with pytest.raises(BadFile, match=words):
        ecdc.read(data)


def test_any_change_of_the_header_is_seen():
    """Or is one that the file may have; nothing else comes out than codes in their range, or BadFile."""
    for at in range(len(FILE) - 190):
        for bit in range(8):
            data = bytearray(FILE)
            data[at] ^= 1 << bit
            try:
                codes, _ = ecdc.read(bytes(data))
            except BadFile:
                continue
            assert codes.size and codes.max() < 1024


@pytest.mark.parametrize("codes", [np.full((1, 2), 1024), np.zeros((33, 2)), np.zeros((1, 3))])
def test_codes_that_do_not_fit(codes):
    with pytest.raises(UsageError):
        ecdc.write(codes.astype(np.uint16), 640)
