"""Files of EnCodec's own program, beside two that it has written."""

import json
from dataclasses import replace

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
# the same of the model of 48 kHz, 48,220 samples at 3 kbit/s: segments of 150 positions and of 3, with a scale each
STEREO = bytes.fromhex(
    "4543444300000000397b226d223a2022656e636f6465635f34386b687a222c2022616c223a2034383232302c20226e63223a20322c20"
    "226c6d223a2066616c73657d3d44218413601c0b8b0a895dfec113601c8b68c8f3483d8713340e159db4f06595b613607ccf0e24d01c"
    "8b48d38cb39c08020bbd5c590f2b3381c1e271bcdcbcce1d31c174f7fcf4b0b2285ef67098ecb2289ea20e9783e265e2bd4a3da62dd0"
    "00a3bac29cfff0ab30ea7a73bc01c77aa6eca0ca86ce4b37c3cf6cd96beb8de29c53400ea382c06ddb782fa76d74f30bcce63acd1b82"
    "5956d06034b2a880d84a2eea792b4bb7023c5d4a7a6770ace16d98e547d4d7bb2087bd7fccd2e8a69b33746814ed46b25e0f8739f492"
    "29234b727e01e78a3d93a7dd3641420af013834488a432010da711c4f3d90797fe8c27e7687d1a0d9543796b3001633cc581e7fc30af"
    "9c13bcaf4c2b4a04f1602934e2514e68e7f4788ed6e4517dda3e63dd0c61f4ce29c4338b2beeb0e0ad0a78e3c50fccea2ab4ec136804"
    "b68f3332990e18e9b87de88661220ca1a7f61b0f1757707d1f9e03cee9744e5a707119de8699a1d05806ac1b286f39f29633c1bce21e"
    "884845f943c18ed809c98e47e63d8fde1c4b2d56e2110a050f"
)
SEGMENTS = [
    (150, 0.0478835254907608, [19, 792], [120, 921], 151312),
    (3, 0.07024785876274109, [331, 395], [266, 961], 2573),
]


@pytest.fixture(params=[FILE, STEREO], ids=["24 kHz", "48 kHz"])
def file(request):
    return request.param


def changed(file=FILE, **fields):
    length = int.from_bytes(file[5:9], "big")
    header = json.dumps(json.loads(file[9 : 9 + length]) | fields).encode()
    return file[:5] + len(header).to_bytes(4, "big") + header + file[9 + length :]


def test_codes_are_those_of_encodec():
    content = ecdc.read(FILE)
    codes = content.codes
    assert codes.shape == (4, 38) and content.samples == 12_077 and content.scales == b""
    assert codes[:, 0].tolist() == FIRST and codes[:, -1].tolist() == LAST and int(codes.sum()) == SUM


def test_segments_are_those_of_encodec():
    content = ecdc.read(STEREO)
    scales = np.frombuffer(content.scales, "<f4").tolist()
    at = 0
    for scale, (positions, expected, first, last, total) in zip(scales, SEGMENTS, strict=True):
        codes, at = content.codes[:, at : at + positions], at + positions
        assert scale == expected and codes.shape == (2, positions) and int(codes.sum()) == total
        assert codes[:, 0].tolist() == first and codes[:, -1].tolist() == last
    assert at == content.codes.shape[1] and content.samples == 48_220


def test_it_writes_the_same_bytes(file):
    assert ecdc.write(ecdc.read(file)) == file


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
        (changed(m="encodec_32khz"), "32khz"),
        (changed(m="encodec_48khz"), "cut or damaged"),
        (changed(STEREO, m="encodec_24khz"), "cut or damaged"),
        (changed(STEREO, nc=17), "not what"),
        (STEREO[:-1], "cut or damaged"),
        (changed(STEREO, al=47_520), "cut or damaged"),
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


def test_any_change_of_the_header_is_seen(file):
    """Or is one that the file may have; nothing else comes out than codes in their range, or BadFile."""
    for at in range(9 + int.from_bytes(file[5:9], "big")):
        for bit in range(8):
            data = bytearray(file)
            data[at] ^= 1 << bit
            try:
                codes = ecdc.read(bytes(data)).codes
            except BadFile:
                continue
            assert codes.size and codes.max() < 1024


@pytest.mark.parametrize("codes", [np.full((1, 2), 1024), np.zeros((33, 2)), np.zeros((1, 3))])
def test_codes_that_do_not_fit(codes):
    content = ecdc.read(FILE)
    with pytest.raises(UsageError, match="do not fit"):
        ecdc.write(replace(content, codes=codes.astype(np.uint16), samples=640))


def test_scales_that_do_not_fit():
    content = ecdc.read(STEREO)
    for scales in (b"", content.scales[:-4], content.scales + bytes(4)):
        with pytest.raises(UsageError, match="do not fit"):
            ecdc.write(replace(content, scales=scales))
    with pytest.raises(UsageError, match="do not fit"):
        ecdc.write(replace(ecdc.read(FILE), scales=bytes(4)))
