"""Damage behind checksums that fit, through the whole decoder: python tests/fuzz_decode.py --count 1000 --seed 0

A hostile file may have sound checksums everywhere and make no sense. Whatever it says, `decode` ends in a VqError, or
returns an image, a recording or a clip of the size that its header declares. The checksum of the codes is left out half
of the time, so that nets see codes that no encoder made.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from vqcli import api
from vqcli.codec import chunks
from vqcli.container import vqz
from vqcli.container.fields import varint
from vqcli.container.header import LosslessResidual
from vqcli.container.vqz import Header
from vqcli.errors import BadFile, VqError
from vqcli.zoo.loading import LoadedModel

Samples = Mapping[str, tuple[LoadedModel, bytes]]  # a model and a valid file of it, by any name
SIZES = ((1, 1), (7, 3), (8, 8), (9, 17), (33, 1), (1, 200), (96, 64), (16384, 16384), (2**20, 256))


def payload(data: bytes, source: random.Random) -> bytes:
    """Other bytes for a payload."""
    if data and source.random() < 0.3:
        at = source.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]
    lists = varint(source.choice((0, 1, 5, 2**20, 2**40))) + varint(source.choice((0, 3, 2**16, 2**41)))
    return (
        data[: source.randrange(len(data) + 1)],
        data + source.randbytes(source.randrange(1, 9)),
        source.randbytes(len(data)),
        bytes(len(data)),
        b"\xff" * len(data),
        lists + data,
        source.randbytes(source.randrange(2 * len(data) + 2)),
        b"",
    )[source.randrange(8)]


def size(header: Header, net: Any, source: random.Random) -> dict[str, Any]:
    """Another size, mostly with the grid that belongs to it, and any chunk."""
    made: tuple[int, ...]
    if header.modality == "audio":
        samples = source.choice((1, 2, 100, header.size[0] - 1, 50_000, 2**36))
        made, grid = (samples, source.choice((header.size[1], 1000, 768_000)), source.choice((1, 2, 64))), header.grid
    else:
        W, H = source.choice(SIZES)
        made, grid = (W, H, source.choice((1, 3))), tuple(net.grid(H, W))
        if header.modality == "video":
            frames = source.choice((1, 3, 65))
            made, grid = (W, H, frames, source.choice((1, 2**20))), (frames, *grid)
    if source.random() < 0.1:
        grid = tuple(source.choice((1, side + 1, 2**12)) for side in grid)
    chunk = tuple(source.randrange(1, side + 1) for side in grid)
    if header.modality == "video" and source.random() < 0.8:
        chunk = (chunk[0], *grid[1:])
    return {"size": made, "grid": grid, "chunk": source.choice(((), chunk))}


def damaged(model: LoadedModel, data: bytes, source: random.Random) -> bytes:
    """The file with one to three changes, and checksums that fit. Raises BadFile where no file can say so."""
    file = vqz.unpack(data)
    header, payloads = file.header, list(file.payloads)
    changes: dict[str, Any] = {}
    for _ in range(source.choice((1, 1, 2, 3))):
        kind = source.choice(("payload", "payload", "coder", "quality", "size", "metadata", "residual"))
        if kind == "payload":
            at = source.randrange(len(payloads))
            payloads[at] = payload(payloads[at] or b"", source)
        elif kind == "coder":
            changes["coder"] = source.choice((0, 1, 2, 3, 4, 127))
        elif kind == "quality":
            changes["quality"] = source.choice((0, 1, 9, 10, 11, 29, 30, 31, 110, 255))
        elif kind == "size":
            changes |= size(header, model.net, source)
        elif kind == "metadata":
            key = source.choice(("voice", "loudness_db", "decoder_gain_db", "decoder_window", "tiles"))
            text = source.choice(
                ("", "/w==", "AAAA", "-20.0", "100.0", "-20.0,1.0", "1.00000", "7", "999999999", "8,2")
            )
            changes["metadata"] = {**header.metadata, key: text}
        elif header.modality == "image":
            changes["residual"] = source.choice((None, LosslessResidual(source.choice((0, 1, 2)), 0)))
    header = replace(header, **changes)
    if header.records > 3000:
        raise BadFile("more payloads than are worth making")
    while len(payloads) < header.records:
        payloads.append(source.choice(payloads))
    return vqz.pack(header, payloads[: header.records])


def outcome(model: LoadedModel, data: bytes, salvage: bool) -> str:
    """Decode, and assert what the module's docstring says; returns what happened."""
    expected = vqz.unpack(data).header.size
    try:
        made = api.decode(data, model, salvage=salvage)
        if isinstance(made, api.DecodedAudio):
            count = 0
            for block in made.blocks():
                assert len(block) == expected[2] and np.isfinite(block).all()
                count += block.shape[1]
                if count > 2**20:
                    return "decoded in part"
            assert count == expected[0]
        elif isinstance(made, api.DecodedVideo):
            for frame in made.frames():
                assert frame.shape == (expected[1], expected[0], 3) and frame.dtype == np.uint8
        else:
            assert made.pixels.shape == (expected[1], expected[0], expected[2]) and made.pixels.dtype == np.uint8
    except VqError as error:
        assert "\n" not in str(error)
        return type(error).__name__
    return "decoded"


def fuzz(samples: Samples, count: int, seed: int) -> Counter[tuple[str, str]]:
    """Decode `count` damaged files; returns how often each (sample, outcome) came. An AssertionError has the file."""
    source = random.Random(seed)
    tally: Counter[tuple[str, str]] = Counter()
    names = sorted(samples)
    check: Callable[..., None] = chunks._check
    while tally.total() < count:
        name = source.choice(names)
        model, data = samples[name]
        try:
            file = damaged(model, data, source)
        except BadFile:
            continue
        unchecked = source.random() < 0.5
        with mock.patch.object(chunks, "_check", (lambda *_: None) if unchecked else check):
            try:
                tally[name, outcome(model, file, source.random() < 0.3)] += 1
            except Exception as error:
                raise AssertionError(f"mutation {tally.total()} of seed {seed}, {name}: {file.hex()}") from error
    return tally


def shipped_samples() -> dict[str, tuple[LoadedModel, bytes]]:
    """Small files of shipped models, by every coder."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (40, 48, 3), np.uint8)
    talk = draw.normal(0, 0.1, (2, 24_000)).astype(np.float32)
    found: dict[str, tuple[LoadedModel, bytes]] = {}
    for name in ("photo-2", "tokens"):
        model = api.loading.load(name, "cpu")
        for coder in ("packed", "adaptive", "prior"):
            found[f"{name} {coder}"] = model, api.encode(pixels, model, coder=coder).data
        found[f"{name} lossless"] = model, api.encode(pixels, model, lossless=True).data
        found[f"{name} clip"] = model, api.encode(np.stack([pixels] * 3), model).data
    speech = api.loading.load("speech", "cpu")
    for coder in ("packed", "adaptive", "prior"):
        found[f"speech {coder}"] = speech, api.encode(talk, speech, rate_hz=16_000, mono=False, coder=coder).data
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for (name, result), times in sorted(fuzz(shipped_samples(), options.count, options.seed).items()):
        print(f"{name:18} {result:18} {times:8}")
