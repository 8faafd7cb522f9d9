"""A folder of photographs -> batches of random crops.

Each step draws its batch from a generator seeded by (seed, step), so a run that is resumed at a step
sees what it would have seen, and no random state has to be stored.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from vqcli.errors import BadFile, UsageError
from vqcli.media import image
from vqcli.recipe import Data

VALIDATION_SHARE = 1 / 50


def is_validation(relative: str) -> bool:
    """Whether a file is held out; decided by its name alone, so the split stays the same from run to run."""
    return int.from_bytes(hashlib.sha256(relative.encode()).digest()[:4]) < VALIDATION_SHARE * 2**32


class Pictures:
    """Decoded photographs of some folders, kept in memory up to `cache_bytes` and decoded again beyond."""

    def __init__(self, folders: list[Path], *, validation: bool = False, cache_bytes: int = 2**31) -> None:
        found = {
            path: path.relative_to(folder).as_posix()
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in image.SUFFIXES
        }
        self.paths = [path for path, relative in found.items() if is_validation(relative) == validation]
        if not self.paths:
            which = "held-out " if validation else ""
            raise UsageError(f"no {which}pictures in {', '.join(map(str, folders))}", "name a folder of photographs")
        self.skipped: dict[Path, str] = {}
        self._cache: dict[Path, np.ndarray] = {}
        self._room = cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, path: Path) -> np.ndarray | None:
        """RGB pixels [H, W, 3] uint8, or None for a file that cannot be read; it is listed in `skipped`."""
        if path in self._cache or path in self.skipped:
            return self._cache.get(path)
        try:
            pixels = image.read(path).pixels
        except BadFile as error:
            self.skipped[path] = str(error)
            return None
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        with self._lock:
            if pixels.nbytes <= self._room and path not in self._cache:
                self._cache[path] = pixels
                self._room -= pixels.nbytes
        return pixels

    def batch(self, recipe: Data, seed: int, step: int) -> np.ndarray:
        """Crops [batch, crop, crop, 3] uint8 of step `step`."""
        draw = random.Random(f"{seed} {step}")
        crops: list[np.ndarray] = []
        for _ in range(100 * recipe.batch):
            pixels = self.read(draw.choice(self.paths))
            if pixels is not None and min(pixels.shape[:2]) >= recipe.crop:
                crops.append(random_crop(pixels, recipe, draw))
                if len(crops) == recipe.batch:
                    return np.stack(crops)
        raise UsageError(
            f"hardly any picture is {recipe.crop} pixels wide and high",
            "lower data.crop in the recipe, or use larger pictures",
        )

    def batches(self, recipe: Data, seed: int, first_step: int, ahead: int = 4) -> Generator[np.ndarray]:
        """Batches from `first_step` on, without end, made `ahead` of time in a thread of their own."""
        with ThreadPoolExecutor(1) as worker:
            waiting = [worker.submit(self.batch, recipe, seed, first_step + i) for i in range(ahead)]
            step = first_step + ahead
            try:
                while True:
                    yield waiting.pop(0).result()
                    waiting.append(worker.submit(self.batch, recipe, seed, step))
                    step += 1
            finally:
                for future in waiting:
                    future.cancel()


def random_crop(pixels: np.ndarray, recipe: Data, draw: random.Random) -> np.ndarray:
    """A crop of `recipe.crop` pixels each way, perhaps flipped, perhaps reduced from a larger one."""
    side = recipe.crop
    if draw.random() < 0.5:
        largest = min(*pixels.shape[:2], round(recipe.crop / recipe.shrink))
        side = draw.randint(recipe.crop, max(largest, recipe.crop))
    top, left = (draw.randint(0, length - side) for length in pixels.shape[:2])
    crop = pixels[top : top + side, left : left + side]
    if side != recipe.crop:
        reduced = Image.fromarray(crop).resize((recipe.crop, recipe.crop), Image.Resampling.LANCZOS)
        crop = np.asarray(reduced)
    return crop[:, ::-1] if recipe.flip and draw.random() < 0.5 else crop
