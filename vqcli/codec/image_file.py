"""Codes of an image <-> a .vqz file: what its header says, and whether that can be."""

from __future__ import annotations

import math
import re

import numpy as np

from vqcli.codec import chunks, tiling
from vqcli.codec.codes import ImageCodes, check_books, check_levels, levels_in, new_header
from vqcli.codec.tiles import Tiles
from vqcli.container import bounds, vqz
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import BadFile, UsageError
from vqcli.zoo.loading import LoadedModel

CHUNK = 1024  # pixels: large enough for the counts to settle, small enough that damage stays local
MAX_CHUNK = (
    CHUNK**2
)  # pixels of a chunk with a lossless residual, which takes some hundreds of bytes for each to decode
TILES = "tiles"  # key of the metadata that is vq's own, of models that see an image as a whole
SIDES = re.compile(r"([1-9][0-9]{0,5}),([1-9][0-9]{0,5})", re.ASCII)


def file_size(model: LoadedModel, image: ImageCodes, *, coder: str = "auto") -> int:
    """Bytes of the whole .vqz file of these codes."""
    return len(vqz.pack(*pack_image(model, image, coder=coder)))


def pack_image(
    model: LoadedModel, image: ImageCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name; see `chunks.pack`.

    Raises UsageError if `metadata` has a key that is vq's own, BadFile for tiles that the model does not decode.
    """
    grid = image.codes.shape[1:]
    side = CHUNK // model.net.stride
    header = new_header(
        model,
        "image",
        (*image.size, image.channels),
        grid,
        levels_in(model, len(image.codes)),
        codes=image.codes,
        quality=image.quality,
        chunk=() if max(grid) <= side else tuple(min(side, length) for length in grid),
        metadata=with_tiles(model, metadata or {}, image),
    )
    return chunks.pack(model, header, image.codes, coder=coder)


def unpack_image(model: LoadedModel, file: Vqz, *, levels: int | None = None) -> tuple[ImageCodes, np.ndarray]:
    """Codes of a parsed file, and which positions are lost: bool [rows, columns], true only in salvaged files.

    `levels` reads the first ones only. Lost positions hold the middle of each codebook. Raises BadFile if a chunk
    does not decode, the codes fail their checksum or do not fit the model, ModelError if the prior that the file
    was made with is not there, UsageError for levels it has not.
    """
    tiles = _check_image(model, file.header)  # before anything is allocated
    check_levels(file.header, levels)
    codes, lost = chunks.unpack(model, file, levels=levels)
    width, height, channels = file.header.size
    return ImageCodes(codes, (width, height), channels, file.header.quality, tiles), lost


def with_tiles(model: LoadedModel, metadata: dict[str, str], image: ImageCodes) -> dict[str, str]:
    """The metadata of a file of an image, or of frames like it, with the tiles in which it is decoded."""
    if TILES in metadata and tiling.sees_whole(model.image):
        raise UsageError(f"the metadata key {TILES} is vq's own", "use another")
    tiles = image.tiles
    tiling.check_tiles(model, tiles, *image.size[::-1])
    return metadata if tiles is None else metadata | {TILES: f"{tiles.side},{tiles.margin}"}


def tiles_in(model: LoadedModel, header: Header) -> Tiles | None:
    """The tiles in which a file is decoded. Raises BadFile for some that cannot be, or where there must be some."""
    tiles, text = None, header.metadata.get(TILES)
    if text is not None and tiling.sees_whole(model.image):
        found = SIDES.fullmatch(text)
        try:
            tiles = Tiles(*map(int, found.groups() if found else ()))
        except (TypeError, ValueError):
            raise BadFile(f"{text[:40]!r} does not tell the side and the margin of tiles") from None
    tiling.check_tiles(model, tiles, header.size[1], header.size[0])
    return tiles


def _check_image(model: LoadedModel, header: Header) -> Tiles | None:
    """The tiles in which the image is decoded, if it is.

    Raises BadFile for a header that is sound in itself but cannot be that of an image by this model.
    """
    if header.modality != "image" or model.info.modality != "image":
        raise BadFile(f"the file holds {header.modality}, not an image of model {model.info.name}")
    width, height, channels = header.size
    bounds.check(header)
    if channels not in (1, 3):
        raise BadFile(f"{channels} channels are neither grey nor colour")
    if header.grid != model.net.grid(height, width):
        raise BadFile(
            f"a grid of {' x '.join(map(str, header.grid))} codes does not belong to {width} x {height} pixels"
        )
    if header.residual and (model.image.stochastic or model.image.decoder_margin is None):
        why = "samples" if model.image.stochastic else "sees an image as a whole"
        raise BadFile(f"it has a lossless residual, which model {model.info.name} cannot have: its decoder {why}")
    bounds.check_chunk([step * model.net.stride for step in header.chunk or header.grid])
    if header.residual and math.prod(header.chunk or header.grid) * model.net.stride**2 > MAX_CHUNK:
        raise BadFile(f"a chunk is of more than the {MAX_CHUNK:,} pixels that vq decodes without loss")
    check_books(model, header, channels=1)
    return tiles_in(model, header)
