"""Sources of images: folders, data sets, .tar files, .npz arrays, packs, all with the interface of source.py.

a folder        images anywhere below it; hidden files are left out. If they lie in subfolders, the first of
                these is their class. Subfolders `train` and `val` are a split, classes are the folders below.
                LOC_synset_mapping.txt in it, or up to three folders above, turns ImageNet's numbers into names
a data set      a folder with the files of MNIST or Fashion-MNIST (idx) or of CIFAR, in their own split (classical.py)
a recording     a folder of .npz arrays, each an episode that is trained on or held out as a whole (recordings.py)
.tar            a folder in one file, or with labels by the webdataset convention (tars.py)
.npz            arrays of numpy, in a split if they are in two parts (arrays.py)
.safetensors    what `vq pack` writes (packs.py)
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqcli.data import arrays, classical, split
from vqcli.data.crops import rgb
from vqcli.data.packs import Pack
from vqcli.data.recordings import Episodes
from vqcli.data.source import Source
from vqcli.data.tars import Tar
from vqcli.errors import UsageError
from vqcli.files import files_below
from vqcli.media import image

SYNSETS = "LOC_synset_mapping.txt"
KINDS = "a folder of images, of MNIST's or CIFAR's files or of .npz episodes, a .tar, an .npz or a pack of vq pack"


class Folder:
    """A source: the images anywhere below a folder. Links to folders are not followed."""

    decoded, stride = False, 1

    def __init__(self, path: Path) -> None:
        files_by_name = {}
        for file in files_below(path):
            name = file.relative_to(path).as_posix()
            if split.is_image(name):
                files_by_name[split.printable(name)] = file
        self.names: Sequence[str] = sorted(files_by_name)
        known = class_names(path)
        self.labels: Sequence[str | None] = [known.get(label, label) for label in split.labels(self.names)]
        self.held_out: Sequence[bool] = split.held_out(self.names)
        self._files = [files_by_name[name] for name in self.names]

    def read(self, index: int) -> np.ndarray:
        return rgb(image.read(self._files[index]).pixels)


def class_names(path: Path) -> dict[str | None, str]:
    """Names for the class folders of ImageNet, from the file that comes with it: n02119789 is kit_fox."""
    for folder in [path, *path.resolve().parents[:3]]:
        try:
            lines = (folder / SYNSETS).read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition(" ")[::2] for line in lines if " " in line)
        names = {number: split.printable(words.split(",")[0].strip().replace(" ", "_")) for number, words in pairs}
        # a few of the thousand classes share their first word (crane, the bird and the machine)
        return {
            number: name if list(names.values()).count(name) == 1 else f"{name}_{number}"
            for number, name in names.items()
        }
    return {}


class Joined:
    """A source: several, one after another, their names below those of their parts."""

    def __init__(self, parts: dict[str, Source]) -> None:
        self._parts = list(parts.values())
        self._ends = list(itertools.accumulate(len(part.names) for part in self._parts))
        self.names: Sequence[str] = [f"{name}/{inner}" for name, part in parts.items() for inner in part.names]
        self.labels: Sequence[str | None] = [label for part in self._parts for label in part.labels]
        self.held_out: Sequence[bool] = [held_out for part in self._parts for held_out in part.held_out]
        self.decoded, self.stride = all(part.decoded for part in self._parts), 1

    def read(self, index: int) -> np.ndarray:
        part = bisect.bisect(self._ends, index)
        return self._parts[part].read(index - (self._ends[part - 1] if part else 0))


def open_source(path: Path) -> Source:
    """The images at `path`. Raises UsageError if it is of no known kind or holds none, BadFile if it is damaged."""
    source: Source
    path = classical.folder_of(path)
    if path.is_dir():
        source = classical.read_folder(path) or Folder(path)
        if not source.names:
            source = Episodes(path)
    elif not path.exists():
        raise UsageError(f"no file or folder {path}", f"name {KINDS}")
    elif path.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise UsageError(f"{path} is compressed, so nothing in it can be found", "unpack it, to a .tar or a folder")
    elif path.suffix == ".tar":
        source = Tar(path)
    elif path.suffix == ".npz":
        source = arrays.read_npz(path)
    elif path.suffix == ".safetensors":
        source = Pack(path)
    else:
        raise UsageError(f"{path} is no data to train on", f"name {KINDS}")
    if not source.names:
        raise UsageError(f"no images in {path}", f"name {KINDS}")
    return source


def open_sources(paths: Sequence[Path]) -> Source:
    """One source of all that lies at `paths`. Raises as open_source does, and UsageError if one lies in another."""
    if not paths:
        raise UsageError("no data", f"name {KINDS}")
    whole = [classical.folder_of(path).resolve() for path in paths]
    for (one, inner), (other, outer) in itertools.permutations(zip(paths, whole, strict=True), 2):
        if inner.is_relative_to(outer):  # an image could be held out by one name and trained on by the other
            raise UsageError(f"{one} lies in {other}" if inner != outer else f"{one} is named twice", "name it once")
    if len(paths) == 1:
        return open_source(paths[0])
    parts: dict[str, Source] = {}
    for path, full in zip(paths, whole, strict=True):
        names = itertools.chain([full.name], (f"{full.name}-{number}" for number in itertools.count(2)))
        parts[next(name for name in names if name not in parts)] = open_source(path)
    return Joined(parts)
