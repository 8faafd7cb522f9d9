"""Processes as Linux lists them."""

import os
from pathlib import Path


def listed() -> tuple[dict[int, list[int]], dict[int, int]]:
    """The children of each process, and the bytes of memory that it holds."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
        resident[int(path.parent.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return children, resident


def descendants(parent: int, children: dict[int, list[int]]) -> list[int]:
    """All processes that descend from one, without itself."""
    found, left = [], [parent]
    while left:
        own = children.get(left.pop(), [])
        left += own
        found += own
    return found
