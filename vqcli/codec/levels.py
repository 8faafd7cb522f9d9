"""Fewer levels of a .vqz file: the payloads of those that stay are untouched, so no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vqcli.codec.codes import File, check_levels
from vqcli.container import vqz
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import UsageError


@dataclass(frozen=True)
class Reduced(File):
    """A .vqz file with its first levels only, which decodes as the whole does with so many `levels`.

    source_bytes   of the whole,
    source_levels  and how many it has
    notes          what the user should know
    """

    header: Header
    payloads: Sequence[bytes | None]
    source_bytes: int
    source_levels: int
    notes: tuple[str, ...] = ()


def drop(
    file: Vqz, *, levels: int | None = None, kbit_per_s: float | None = None, size_bytes: int | None = None
) -> Reduced:
    """The first `levels` of a sound file, or as many as fit into a size or (of audio) a rate, one at least.

    A lossless residual is dropped as well: it belongs to all levels. Raises UsageError for levels that the file has
    not, for a rate of anything else than audio, and unless exactly one of the three is given.
    """
    if sum(each is not None for each in (levels, kbit_per_s, size_bytes)) != 1:
        raise UsageError(
            "a .vqz file is coded already, and can drop levels", "give one of --levels, --kbps and --bytes"
        )
    if levels is not None:
        check_levels(file.header, levels)
        return _of(file, vqz.drop_levels(file, levels))
    if kbit_per_s is not None:
        if file.header.modality != "audio":
            raise UsageError(f"--kbps is for audio, and the file holds {file.header.modality}", "--levels or --bytes")
        size_bytes = bytes_at(kbit_per_s, file.header.size[0] / file.header.size[1])
    assert size_bytes is not None
    fewer = within(file, size_bytes)
    note = f"one level takes more than {size_bytes:,} bytes"
    return _of(file, fewer, *[note] * (fewer.size_bytes > size_bytes))


def within(file: Vqz, size_bytes: int) -> Vqz:
    """The file with as many levels as fit into so many bytes, one at least."""
    for levels in range(file.header.levels, 1, -1):
        fewer = vqz.drop_levels(file, levels)
        if fewer.size_bytes <= size_bytes:
            return fewer
    return vqz.drop_levels(file, 1)


def bytes_at(kbit_per_s: float, length_s: float) -> int:
    """Bytes of a file of that rate, header included; 1000 bits a second."""
    return int(1000 * kbit_per_s * length_s / 8)


def _of(whole: Vqz, fewer: Vqz, *notes: str) -> Reduced:
    return Reduced(fewer.header, fewer.payloads, whole.size_bytes, whole.header.levels, notes)
