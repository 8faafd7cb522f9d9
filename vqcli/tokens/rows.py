"""A row of a shard: the codes of one item with what it was, and the way back to codes in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from vqcli.codec import exchange, tiling
from vqcli.codec.codes import AudioCodes, ImageCodes
from vqcli.errors import BadFile
from vqcli.tokens.items import Value
from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True, eq=False)
class Row:
    """One item, tokenized.

    key     of the item
    codes   uint16 (uint32 where K is above 65,536) [groups, rows, columns], of audio [channels * groups, positions]
    size    width, height and channels of an image; samples, rate_hz and channels of a recording
    side    what decoding needs besides: of images their quality, of recordings loudness and voice; JSON
    labels  by column
    """

    key: str
    codes: np.ndarray
    size: tuple[int, int, int]
    side: bytes
    labels: dict[str, Value] = field(default_factory=dict)


class _ImageSide(msgspec.Struct, frozen=True, omit_defaults=True):
    quality: int = 0


class _AudioSide(msgspec.Struct, frozen=True, omit_defaults=True):
    loudness_db: tuple[float, ...]
    voice: tuple[bytes, ...]
    gain_db: tuple[float, ...] = ()
    window: int = 0


def row_of(key: str, codes: ImageCodes | AudioCodes, labels: dict[str, Value]) -> Row:
    """Codes in memory as a row."""
    size: tuple[int, int, int]
    side: Any
    if isinstance(codes, AudioCodes):
        size = codes.samples, codes.rate_hz, codes.channels
        side = _AudioSide(codes.loudness_db, codes.voice, codes.gain_db, codes.window)
    else:
        size, side = (*codes.size, codes.channels), _ImageSide(codes.quality)
    return Row(key, exchange.array_of(codes), size, msgspec.json.encode(side), labels)


def codes_of(row: Row, model: LoadedModel) -> ImageCodes | AudioCodes:
    """A row as codes in memory, to be decoded or packed. Raises BadFile for what the model does not have."""
    common: dict[str, Any] = {
        "model": model.info.name, "digest": model.info.digest.hex(), "shape": row.codes.shape, "codebook_sizes": ()
    }  # fmt: skip
    facts: exchange.Facts
    try:
        if model.info.modality == "audio":
            side = msgspec.json.decode(row.side, type=_AudioSide)
            samples, rate_hz, channels = row.size
            per_s = model.audio.framing.positions_per_s(model.audio.rate_hz)
            facts = exchange.AudioFacts(
                positions_per_s=per_s, rate_hz=rate_hz, samples=samples, channels=channels,
                loudness_db=side.loudness_db, voice=side.voice, gain_db=side.gain_db, window=side.window, **common,
            )  # fmt: skip
        else:
            quality = msgspec.json.decode(row.side, type=_ImageSide).quality
            width, height, channels = row.size
            tiles = tiling.tiles_of(model.image, height, width)
            facts = exchange.ImageFacts(
                size=(width, height), channels=channels, quality=quality, tiles=tiles, **common
            )  # fmt: skip
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"what stands beside the codes of {row.key} is not sound: {error}") from None
    found = exchange.restored(row.codes, facts, model)
    assert isinstance(found, ImageCodes | AudioCodes)
    return found
