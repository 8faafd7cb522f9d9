"""What a tokenized set tells of itself: use and perplexity of codebooks, bits by coder, lengths."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcli.codec import audio_file, image_file
from vqcli.codec.codes import AudioCodes, ImageCodes
from vqcli.container import vqz
from vqcli.entropy import coders
from vqcli.errors import UsageError
from vqcli.files import replacing
from vqcli.progress import ProgressCallback, silent
from vqcli.tokens import plan
from vqcli.tokens.check import read_shard
from vqcli.tokens.rows import Row, codes_of
from vqcli.tokens.store import Store
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

SAMPLED = 64  # items that are coded


@dataclass(frozen=True)
class Codebook:
    """Of one group: its K, how many of these occur, the perplexity of their counts and its logarithm to base 2."""

    K: int
    used: int
    perplexity: float
    bits: float


@dataclass(frozen=True)
class Statistics:
    """Of a set.

    codebooks  of each group of a channel
    lengths    (lowest, highest, items): positions of an item, in bins of a factor of two
    coders     bits a code and bytes of a .vqz file, by the name of the coder, of `sampled` items
    """

    items: int
    codes: int
    codebooks: tuple[Codebook, ...]
    lengths: tuple[tuple[int, int, int], ...]
    coders: dict[str, tuple[float, float]]
    sampled: int


def measure(
    place: Store, model: str | None = None, device: str = "auto", progress: ProgressCallback = silent
) -> Statistics:
    """Read a whole set. `model` None is the one that it names, if that is here; without one nothing is coded.

    Raises BadFile, ModelError for a model that it is not of.
    """
    index = plan.read_index(place)
    sizes = index.plan.codebook_sizes
    counts = [np.zeros(K, np.int64) for K in sizes]
    lengths: Counter[int] = Counter()
    step = max(1, index.items // SAMPLED)
    sample: list[Row] = []
    seen = 0
    for number, record in enumerate(index.shards):
        for row in read_shard(place, index.plan, record):
            for group, codes in enumerate(row.codes):
                K = sizes[group % len(sizes)]  # channels of a recording stand one after the other
                counts[group % len(sizes)] += np.bincount(codes.ravel(), minlength=K)
            lengths[int(np.prod(row.codes.shape[1:])).bit_length()] += 1
            if seen % step == 0 and len(sample) < SAMPLED:
                sample.append(row)
            seen += 1
        progress((number + 1) / len(index.shards))
    loaded = _model(index.plan, model, device)
    coded = {} if loaded is None else _coded(loaded, sample)
    bins = tuple((2 ** (bits - 1), 2**bits - 1, count) for bits, count in sorted(lengths.items()))
    used = tuple(_codebook(each) for each in counts)
    return Statistics(index.items, index.codes, used, bins, coded, len(sample) if coded else 0)


def draw(found: Statistics, path: Path) -> None:
    """The use of each codebook, from the most frequent code on, to a picture. Needs matplotlib (extra `report`)."""
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError:
        raise UsageError("plots need an extra", "pip install 'vqcli[report]'") from None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    groups = range(len(found.codebooks))
    left.bar(groups, [each.perplexity / each.K for each in found.codebooks], label="perplexity / K")
    left.plot(groups, [each.used / each.K for each in found.codebooks], "k_", label="used / K")
    left.set(xlabel="group", ylim=(0, 1.05))
    left.legend()
    right.bar([str(low) for low, _, _ in found.lengths], [count for _, _, count in found.lengths])
    right.set(xlabel="positions, from", ylabel="items")
    with replacing(path, force=True) as stream:
        figure.savefig(stream, format=path.suffix.lstrip(".") or "png")
    pyplot.close(figure)


def _codebook(counts: np.ndarray) -> Codebook:
    share = counts[counts > 0] / max(1, counts.sum())
    bits = float(-(share * np.log2(share)).sum())
    return Codebook(len(counts), len(share), 2**bits, bits)


def _model(settings: plan.Plan, name: str | None, device: str) -> LoadedModel | None:
    """The model of a set. Raises ModelError if a named one is another."""
    digest = bytes.fromhex(settings.digest)
    if name is not None:
        info = store.find(name)
        store.check_digest(info, settings.model, digest)
        return loading.load(info, device)
    try:
        return loading.load(store.find_for_file(settings.model, digest), device)
    except store.ModelError:
        return None


def _coded(model: LoadedModel, sample: list[Row]) -> dict[str, tuple[float, float]]:
    """Bits a code and bytes a file by each coder that can be, over some rows."""
    found: dict[str, tuple[float, float]] = {}
    codes = [codes_of(row, model) for row in sample]
    count = sum(each.codes.size for each in codes)
    for name in (*coders.table(), coders.AUTO):
        try:
            size = sum(_bytes(model, each, name) for each in codes)
        except UsageError:  # a coder that the model does not have
            continue
        found[name] = 8 * size / max(1, count), size / max(1, len(codes))
    return found


def _bytes(model: LoadedModel, codes: ImageCodes | AudioCodes, coder: str) -> int:
    if isinstance(codes, ImageCodes):
        return image_file.file_size(model, codes, coder=coder)
    return len(vqz.pack(*audio_file.pack_audio(model, codes, coder=coder)))
