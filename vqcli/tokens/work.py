"""The work of one shard: its items are read by threads, go through the net together where they are alike, and are
written as one file. What an engine spreads over processes and machines."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcli.codec import exchange, tiling, windows
from vqcli.codec.codes import AudioCodes, ImageCodes, keep_levels
from vqcli.container import vqz
from vqcli.data.prefetch import in_order
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.files import name_of
from vqcli.media import audio, image
from vqcli.tokens import allocation, formats, sources
from vqcli.tokens.items import Item, Medium, Named, Value
from vqcli.tokens.plan import Failure, Plan, Record, Shard, shard_name, write_record
from vqcli.tokens.rows import Row, row_of
from vqcli.tokens.sources import Wanted
from vqcli.tokens.sources.folders import CODED
from vqcli.tokens.store import Store
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

WAITING = 2**27  # bytes of media that are decoded and wait for the net, beyond which none is begun
HELD = 2**25  # pixels that wait for others of their size, at most: a hundred MB
OFTEN_S = 0.2  # how often a worker says how many items of a shard are done
Codes = ImageCodes | AudioCodes
Decoded = np.ndarray | audio.Recording | Codes


@dataclass(frozen=True)
class Task:
    """What every worker of a run needs to know; small, and it pickles.

    model    name or folder
    threads  that read media, for each worker
    """

    plan: Plan
    store: Store
    model: str
    device: str = "auto"
    threads: int = 2


class Worker:
    """Makes shards. Loads the model when it is made. Raises ModelError, UsageError for options that do not fit it."""

    def __init__(self, task: Task) -> None:
        self.task, self.plan = task, task.plan
        info = store.find(task.model)
        store.check_digest(info, task.plan.model, bytes.fromhex(task.plan.digest))
        self.model = loading.load(info, task.device)
        check_options(self.model, task.plan.options)
        if self.model.device.type == "cpu":
            allocation.keep_pages()
        if self.plan.batch_pixels and self.model.device.type == "cpu" and info.modality == "image":
            self.model.net.to(memory_format=torch.channels_last)  # faster there, up to half
        self._wanted = Wanted(self.plan.modality, self.plan.medium, tuple(self.plan.columns))
        self._format = formats.of(self.plan.format)

    def make(self, shard: Shard, moved: Callable[[int], None] = lambda items: None) -> Record:
        """Write a shard and its record. On a CPU the net takes one thread, so that sums are in one order everywhere.

        `moved` is called now and then with how many items are done. Raises OutputError; a bad item is in the record.
        """
        threads = torch.get_num_threads()
        if self.model.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            rows, failed = self.rows(shard, moved)
        finally:
            torch.set_num_threads(threads)
        data = self._format.dump(rows, self.plan)
        record = Record(
            number=shard.number,
            name=shard_name(shard.number, formats.suffix(self.plan.format)),
            items=len(rows),
            codes=sum(row.codes.size for row in rows),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            source=shard.digest,
            failed=tuple(failed),
        )
        self.task.store.write(record.name, data)
        write_record(self.task.store, record)
        return record

    def rows(self, shard: Shard, moved: Callable[[int], None] = lambda items: None) -> tuple[list[Row], list[Failure]]:
        """The rows of a shard and what could not become one, in the order of its items."""
        codes: dict[int, Any] = {}
        labels: dict[int, dict[str, Value]] = {}
        failed: list[Failure] = []

        def media() -> Iterator[tuple[int, Decoded]]:
            threads = self.task.threads
            places = range(len(shard.items))
            made = in_order(
                self._reader(shard), places, workers=threads, prefetch=2 * threads, size=_bytes_of, most=WAITING
            )
            for number, found in enumerate(made):
                if isinstance(found, str):
                    failed.append(Failure(shard.items[number].key, found))
                    continue
                decoded, labels[number] = found
                if isinstance(decoded, Codes):
                    codes[number] = decoded
                else:
                    yield number, decoded

        encode: Any = self._images if self.plan.modality == "image" else self._recordings
        said = time.monotonic()
        for number, made in encode(media()):
            codes[number] = made
            if time.monotonic() - said >= OFTEN_S:
                said = time.monotonic()
                moved(len(codes) + len(failed))
        levels: Any = self.plan.options.get("levels")
        if levels is not None:
            codes = {number: keep_levels(self.model, each, levels) for number, each in codes.items()}
        return [row_of(shard.items[n].key, codes[n], labels[n]) for n in sorted(codes)], failed

    def _reader(self, shard: Shard) -> Callable[[int], tuple[Decoded, dict[str, Value]] | str]:
        """What reads an item by its place in the shard: decoded, with its labels, or why that cannot be."""

        def read(number: int) -> tuple[Decoded, dict[str, Value]] | str:
            try:
                return self._read(shard.items[number])
            except (BadFile, UsageError, ModelError) as error:
                return str(error)

        return read

    def _read(self, item: Item) -> tuple[Decoded, dict[str, Value]]:
        """Raises BadFile for what is damaged, UsageError for what the model does not take."""
        medium: Medium = sources.read(item, self._wanted, self.plan.columns)
        source: Any = medium.source
        if isinstance(source, Path | Named) and name_of(source).lower().endswith(CODED):
            return self._coded(source), medium.labels
        if self.plan.modality == "audio":
            net, mono = self.model.audio, self.plan.options.get("mono")
            recording = audio.read(source, net.rate_hz, mono is not False, 1 if mono else net.channels)
            return recording, medium.labels
        pixels = source if isinstance(source, np.ndarray) else image.read(source).pixels
        tiling.check_size(self.model, *pixels.shape[:2])
        return pixels, medium.labels

    def _coded(self, source: Path | Named) -> Codes:
        """The codes of a .vqz file as they are. Raises BadFile, ModelError for one of another model."""
        file = vqz.read(source)
        store.check_digest(self.model.info, file.header.model, file.header.digest, file.header.joint)
        codes = exchange.codes_of(self.model, file)
        if not isinstance(codes, Codes):
            raise BadFile(f"{name_of(source)} holds a clip", "vq export writes its codes")
        return codes

    def _images(self, images: Iterator[tuple[int, Decoded]]) -> Iterator[tuple[int, ImageCodes]]:
        """Codes of images by number. Those of one grid go through the net together, as many as the plan allows."""
        waiting: dict[tuple[int, int, int], list[tuple[int, np.ndarray]]] = defaultdict(list)
        stride = self.model.image.stride

        def pixels_of(key: tuple[int, int, int], count: int) -> int:
            return count * key[0] * key[1] * stride**2

        for number, pixels in images:
            assert isinstance(pixels, np.ndarray)
            key = (*self.model.image.grid(*pixels.shape[:2]), pixels.shape[2])
            waiting[key].append((number, pixels))
            if pixels_of(key, len(waiting[key]) + 1) > self.plan.batch_pixels:
                yield from self._together(waiting.pop(key))
            while sum(pixels_of(key, len(some)) for key, some in waiting.items()) > HELD:
                yield from self._together(waiting.pop(max(waiting, key=lambda k: (pixels_of(k, len(waiting[k])), k))))
        for key in sorted(waiting):
            yield from self._together(waiting[key])

    def _together(self, some: list[tuple[int, np.ndarray]]) -> Iterator[tuple[int, ImageCodes]]:
        numbers, pixels = zip(*some, strict=True)
        options: dict[str, Any] = {name: self.plan.options.get(name) for name in ("quality", "tune")}
        yield from zip(numbers, tiling.encode_images(self.model, pixels, **options), strict=True)

    def _recordings(self, recordings: Iterator[tuple[int, Decoded]]) -> Iterator[tuple[int, AudioCodes]]:
        for number, recording in recordings:
            assert isinstance(recording, audio.Recording)
            yield number, windows.encode_audio(self.model, recording)


def _bytes_of(found: tuple[Decoded, dict[str, Value]] | str) -> int:
    """Of what was read of an item."""
    decoded = "" if isinstance(found, str) else found[0]
    if isinstance(decoded, audio.Recording):
        return decoded.samples.nbytes
    return decoded.nbytes if isinstance(decoded, np.ndarray) else 0


def check_options(model: LoadedModel, options: dict[str, Any]) -> None:
    """Raise UsageError for options that the model does not have, ModelError for one that cannot encode."""
    if not model.net.encodes:
        raise UsageError(f"model {model.info.name} does not encode", "--model names another")
    foreign = {"image": ("mono",), "audio": ("quality", "tune")}[model.info.modality]
    for name in foreign:
        if options.get(name) is not None:
            raise UsageError(f"model {model.info.name} is of {model.info.modality}, and has no {name}", "leave it out")
    levels = options.get("levels")
    if levels is not None and not 1 <= levels <= model.net.levels:
        raise UsageError(f"--levels {levels}: model {model.info.name} has {model.net.levels}")
    if model.info.modality == "image":
        tiling.resolve_quality(model, options.get("quality"), options.get("tune"))
