"""Payloads: in order, damaged ones among them, in memory and on disk."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from vqcli.container import payloads
from vqcli.container.payloads import Payloads
from vqcli.errors import OutputError

PARTS = [b"first", None, b"", b"\0" * 9]


def test_payloads_are_a_sequence():
    kept = Payloads(PARTS)
    assert kept == PARTS and kept == tuple(PARTS) and kept != PARTS[:3] and list(kept) == PARTS
    assert kept[-1] == b"\0" * 9 and kept[1] is None and kept.size_bytes == 14
    assert kept[1:3] == [None, b""] and kept[1:3].size_bytes == 0
    with pytest.raises(IndexError):
        kept[4]


@pytest.mark.fault("14 memory")
def test_many_payloads_take_no_memory(monkeypatch):
    monkeypatch.setattr(payloads, "IN_MEMORY", 2**12)
    size, count = 2**16, 256
    tracemalloc.start()
    kept = Payloads(bytes([number]) * size for number in range(count))
    with ThreadPoolExecutor(4) as pool:  # chunks are decoded side by side
        found = list(pool.map(lambda number: kept[number][:3] == bytes([number]) * 3, range(count)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(found) and kept.size_bytes == size * count
    assert most < 32 * size  # a few at a time, of 256


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(payloads, "IN_MEMORY", 16)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OutputError, match=r"no room for coded chunks in .*: No space left"):
        Payloads([b"x" * 32])
