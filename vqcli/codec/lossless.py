"""What a decoded image lacks: codes and lossless residual together return every pixel, on every machine.

A residual only helps where the decoded image is the very one that the encoder saw. So the net is evaluated once more
in float64 on the CPU, and what it makes is rounded with a guard (nets/guarded.py); should a machine err by more than
that, the CRC-32 of the pixels proves. There are two coders, and the one that takes fewer bytes is used:

    predicted   0   pixels given the decoded image (entropy/pixel_prediction.py), of any model
    likelihood  1   pixels under the decoder's own distribution p(x | z) (entropy/pixel_likelihood.py), of models
                    that have one: as many bytes as -log2 p(x | z) says

The payload of a chunk: a varint n, then n varints (each 2 * distance + rounded up, the distance counted from the place
after the last listed number), then the bytes of the coder. Listed are levels, in C order [rows, columns, channels] of
the chunk and cut to 0 .. 255 after rounding, or the likelihood's numbers in the order of nets/exact_likelihood.py.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from typing import Any
from zlib import crc32

import numpy as np
import torch

from vqcli.codec import guarded
from vqcli.codec.codes import ImageCodes
from vqcli.codec.guarded import Listed
from vqcli.codec.lossless_likelihood import parameters
from vqcli.codec.tiles import Window
from vqcli.codec.tiling import decoded_tiles
from vqcli.container.fields import Reader, varint
from vqcli.container.header import LosslessResidual
from vqcli.container.payloads import Payloads
from vqcli.container.vqz import Header, Vqz
from vqcli.entropy import pixel_likelihood, pixel_prediction
from vqcli.errors import BadFile, VqError
from vqcli.files import release, storage
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

BAND_BYTES = 2**25  # that are made at once, at least a row of positions
TILE = 256  # pixels: float64 convolutions copy their input many times over

Part = tuple[Any, ImageCodes, Window]  # a net in float64 on the CPU, the codes of an image, a chunk of their grid
Encode = Callable[[Part, np.ndarray], Callable[[], bytes]]
Decode = Callable[[Part, bytes], Callable[[], np.ndarray]]


def pack(
    model: LoadedModel, header: Header, image: ImageCodes, pixels: np.ndarray, progress: ProgressCallback = silent
) -> tuple[Header, Payloads]:
    """The header with a residual, and its payloads: what is to follow those of the codes.

    Each is decoded again and compared with the pixels, uint8 [H, W, channels]. Raises VqError if they differ.
    """
    net = exact_net(model)
    known = [PREDICTED, LIKELIHOOD] if _has_likelihood(net, image) else [PREDICTED]
    attempts: list[tuple[int, int, Payloads]] = []
    for number in known:
        encode, _ = CODERS[number]

        def prepared(window: Window, encode: Encode = encode) -> Callable[[], bytes]:
            return encode((net, image, window), pixels[_in_pixels(net, image, window)])

        def said(share: float, done: int = len(attempts)) -> None:
            progress((done + share) / len(known))
            release(pixels)
            release(image.codes)

        payloads = Payloads(_pipelined(prepared, _windows(header), said))
        attempts.append((payloads.size_bytes, number, payloads))
    _, number, payloads = min(attempts, key=lambda attempt: attempt[:2])
    residual = LosslessResidual(number, _crc(pixels))
    return replace(header, residual=residual), payloads


def _crc(pixels: np.ndarray) -> int:
    """The CRC-32 of pixels uint8 [H, W, channels], some rows at a time: a copy of all may take much memory."""
    crc, step = 0, max(1, BAND_BYTES // max(1, pixels[0].size))
    for top in range(0, len(pixels), step):
        crc = crc32(np.ascontiguousarray(pixels[top : top + step]).data, crc)
        release(pixels)
    return crc


def decode_bands(
    model: LoadedModel,
    file: Vqz,
    image: ImageCodes,
    lost: np.ndarray,
    exact: np.ndarray,
    progress: ProgressCallback = silent,
) -> Iterator[np.ndarray]:
    """Pixels uint8 [h, W, channels] of a file with a residual, in bands of whole positions from top to bottom.

    `image` holds the codes of all levels; where they are `lost`, and in chunks without their residual, which both
    can only be in salvaged files, the pixels are what the codes decode to. Which positions are exact is written into
    `exact`, bool [rows, columns]. Raises BadFile, at the latest after the last band, if the residual does not fit what
    this machine decodes.
    """
    assert file.header.residual is not None
    _, decode = _coder(file.header.residual.coder)
    net, crc, payloads = exact_net(model), 0, iter(map(file.residual, range(file.header.chunk_count)))
    windows = _windows(file.header)
    try:
        for rows, group in groupby(enumerate(windows), lambda window: window[1][0]):
            numbers, row = zip(*group, strict=True)
            place = _in_pixels(net, image, (rows, slice(0, lost.shape[1])))[0]
            band = storage((place.stop - place.start, image.size[0], image.channels), np.uint8)

            def prepared(window: Window, top: int = place.start, band: np.ndarray = band) -> Callable[[], None]:
                part, payload = (net, image, window), next(payloads)
                reach = tuple(slice(max(s.start - net.decoder_margin, 0), s.stop + net.decoder_margin) for s in window)
                y, x = _in_pixels(net, image, window)
                inside = slice(y.start - top, y.stop - top), x
                if payload is None or lost[reach].any():
                    band[inside], _ = rounded(values(part))
                    return lambda: None
                work = decode(part, payload)

                def finish() -> None:
                    band[inside] = work()
                    release(band)
                    exact[window] = True

                return finish

            def said(share: float, done: int = numbers[0], count: int = len(row)) -> None:
                progress((done + share * count) / len(windows))
                release(image.codes)

            for _ in _pipelined(prepared, list(row), said):
                pass
            step = max(1, BAND_BYTES // (band[0].size * net.stride)) * net.stride
            for top in range(0, len(band), step):
                part = np.array(band[top : top + step])
                release(band)
                crc = crc32(part.data, crc)
                yield part
        if exact.all() and crc != file.header.residual.pixels_crc:
            raise BadFile("the pixels fail their checksum")
    except BadFile as error:
        hint = "its codes may decode otherwise on this machine; --salvage shows what they decode to"
        raise BadFile(f"the image cannot be had without loss: {error}", hint) from error


def lossy_bands(model: LoadedModel, image: ImageCodes) -> Iterator[np.ndarray]:
    """What the codes of such a file decode to, as the residual is relative to: uint8 [h, W, channels] each."""
    net, (rows, columns) = exact_net(model), image.codes.shape[1:]
    for window in ((slice(top, min(top + TILE, rows)), slice(0, columns)) for top in range(0, rows, TILE)):
        yield rounded(values((net, image, window)))[0]


def exact_net(model: LoadedModel) -> Any:
    """The net in float64 on the CPU."""
    return copy.deepcopy(model.net).cpu().double()


def values(part: Part) -> np.ndarray:
    """What the net decodes a chunk to: levels [h, w, channels], not rounded; black is 0, white 255."""
    net, image, window = part
    place = _in_pixels(net, image, window)
    top, left = (s.start for s in place)
    levels = None
    for (y, x), decoded, _ in decoded_tiles(net, image, window, TILE):
        found = _levels(decoded)
        if levels is None:
            levels = np.empty((place[0].stop - top, place[1].stop - left, image.channels), found.dtype)
        levels[y.start - top : y.stop - top, x.start - left : x.stop - left] = found
    assert levels is not None  # no chunk is empty
    return levels


def rounded(levels: np.ndarray, listed: Mapping[int, bool] | None = None) -> tuple[np.ndarray, Listed]:
    """Levels as uint8 of the same shape, and the list of guarded.rounded, places in C order."""
    whole, listed = guarded.rounded(levels, listed)
    return whole.clip(0, 255).astype(np.uint8), listed


# ---------------------------------------------------------------- coders of the residual
# Each is a pair. encode(part, pixels) and decode(part, payload) evaluate the net, and return the work that is left,
# which other threads do.


def _encode_predicted(part: Part, pixels: np.ndarray) -> Callable[[], bytes]:
    decoded, listed = rounded(values(part))

    def work() -> bytes:
        coded = pixel_prediction.encode(pixels, decoded)
        if not np.array_equal(pixel_prediction.decode(coded, decoded), pixels):
            raise VqError("the residual does not return the pixels", "this is a defect of vq: please report it")
        return _list_to_bytes(listed) + coded

    return work


def _decode_predicted(part: Part, payload: bytes) -> Callable[[], np.ndarray]:
    levels = values(part)
    listed, coded = _list_of_bytes(payload, levels.size)
    decoded, _ = rounded(levels, listed)
    return lambda: pixel_prediction.decode(coded, decoded)


def _encode_likelihood(part: Part, pixels: np.ndarray) -> Callable[[], bytes]:
    said, listed = parameters(part[0].likelihood, _numbers(part))

    def work() -> bytes:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        coded = pixel_likelihood.encode(planes, said)
        if not np.array_equal(pixel_likelihood.decode(coded, planes.shape, said), planes):
            raise VqError("the residual does not return the pixels", "this is a defect of vq: please report it")
        return _list_to_bytes(listed) + coded

    return work


def _decode_likelihood(part: Part, payload: bytes) -> Callable[[], np.ndarray]:
    net, image, _ = part
    if not _has_likelihood(net, image):
        raise BadFile("its residual needs a likelihood, which the model does not have")
    made = _numbers(part)
    listed, coded = _list_of_bytes(payload, 256 * made.numel())
    said, _ = parameters(net.likelihood, made, listed)
    shape = (image.channels, *made.shape[1:])
    return lambda: np.ascontiguousarray(pixel_likelihood.decode(coded, shape, said).transpose(1, 2, 0))


def _numbers(part: Part) -> torch.Tensor:
    """What the decoder makes of a chunk for its likelihood: [numbers, h, w] in float64."""
    net, image, window = part
    place = _in_pixels(net, image, window)
    top, left = (s.start for s in place)
    numbers = torch.empty(net.likelihood.numbers, place[0].stop - top, place[1].stop - left, dtype=torch.float64)
    for (y, x), made, _ in decoded_tiles(net, image, window, TILE, raw=True):
        numbers[:, y.start - top : y.stop - top, x.start - left : x.stop - left] = made
    return numbers


def _has_likelihood(net: Any, image: ImageCodes) -> bool:
    return net.likelihood is not None and net.channels == image.channels


PREDICTED, LIKELIHOOD = 0, 1
CODERS: dict[int, tuple[Encode, Decode]] = {
    PREDICTED: (_encode_predicted, _decode_predicted),
    LIKELIHOOD: (_encode_likelihood, _decode_likelihood),
}


def _coder(number: int) -> Any:
    if number not in CODERS:
        raise BadFile(f"residual coder {number} is not known to this vq", "a newer vq may read it")
    return CODERS[number]


def _list_to_bytes(listed: Listed) -> bytes:
    written, last = varint(len(listed)), -1
    for place, up in listed.items():
        written += varint(2 * (place - last - 1) + up)
        last = place
    return written


def _list_of_bytes(payload: bytes, size: int) -> tuple[Listed, bytes]:
    """The list at the beginning of a payload, of places below `size`, and the bytes after it. Raises BadFile."""
    reader = Reader(payload, "a residual")
    count = reader.varint()
    if count > min(size, len(reader)):
        raise BadFile("a residual ends within its list of rounded values")
    listed, last = {}, -1
    for _ in range(count):
        distance, up = divmod(reader.varint(), 2)
        last += distance + 1
        listed[last] = bool(up)
    if last >= size:
        raise BadFile(f"a residual lists value {last + 1} of {size}")
    return listed, reader.take(len(reader))


# ---------------------------------------------------------------- places


def _levels(x: torch.Tensor) -> np.ndarray:
    """Values [channels, h, w] of a net as levels [h, w, channels]."""
    return x.movedim(0, -1).numpy() * 255 + 127.5


def _windows(header: Header) -> list[Window]:
    return [(rows, columns) for rows, columns in header.chunk_windows()]


def _in_pixels(net: Any, image: ImageCodes, window: Window) -> Window:
    """A window of the grid in pixels."""
    (W, H), stride = image.size, net.stride
    y, x = (slice(s.start * stride, min(s.stop * stride, most)) for s, most in zip(window, (H, W), strict=True))
    return y, x


def _pipelined(
    prepared: Callable[[Window], Callable[[], Any]], windows: list[Window], progress: ProgressCallback
) -> Iterator[Any]:
    """Results in order. `prepared` runs chunk after chunk, for the net takes all cores itself; its work in threads.

    Little more of it is prepared than threads can begin, as it may hold much memory.
    """
    workers = os.cpu_count() or 1
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number, window in enumerate(windows, 1):
            if len(pending) > workers:
                yield pending.popleft().result()
            pending.append(pool.submit(prepared(window)))
            progress(number / len(windows))
        while pending:
            yield pending.popleft().result()
