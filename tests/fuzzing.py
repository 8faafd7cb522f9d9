"""What the scripts fuzz_*.py of readers share: random damage, and the loop that counts what comes of it.

Whatever the damage, a reader raises a VqError or reads something that can be used; anything else is a violation.
"""

import argparse
import copy
import json
import random
import resource
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz_vqz import delete, flip, insert, splice, truncate
from vqcli.errors import VqError

BYTES = (flip, flip, truncate, insert, delete, splice)
LARGEST_MEMORY = 4 * 2**30  # bytes of addresses, for scripts
SECONDS = 60.0  # of the processor, for one case; the first compiles
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 2**16, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf"), True, None),
    *("x", "", "\x1b[31m", "../../x", "k" * 5000, [], {}, [1, 2], {"a": 1}, [[]]),
)
TYPES = ("F32", "F16", "BF16", "F64", "I8", "U8", "I16", "I32", "I64", "BOOL", "U16", "U32", "U64", "F8_E4M3")
SIZES = (0, 1, 2, 2**20, 2**31, 2**40, 2**62, 2**63 - 1)


@dataclass(frozen=True)
class Case:
    """A kind of input: `damaged` makes one, `use` takes it, in an empty folder, as far as commands do."""

    damaged: Callable[[random.Random], bytes]
    use: Callable[[bytes, Path], None]


class TooSlow(BaseException):
    """Not caught by anything that is tried."""


def damaged(data: bytes, source: random.Random) -> bytes:
    return source.choice(BYTES)(data, source) if data else b""


def edited(value: Any, source: random.Random, depth: int = 0) -> Any:
    """JSON with one random node replaced, removed or added."""
    if isinstance(value, dict) and value and (depth == 0 or source.random() < 0.8):
        changed, key, what = dict(value), source.choice(list(value)), source.random()
        if what < 0.12:
            del changed[key]
        elif what < 0.2:
            changed[key] = source.choice(VALUES)
        elif what < 0.24:
            changed[source.choice(("zz", "name", "K", "format"))] = source.choice(VALUES)
        else:
            changed[key] = edited(value[key], source, depth + 1)
        return changed
    if isinstance(value, list) and value and source.random() < 0.7:
        row = list(value)
        at = source.randrange(len(row))
        row[at] = edited(row[at], source, depth + 1)
        return row
    return copy.deepcopy(source.choice(VALUES))


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def join(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def edited_tensors(header: dict[str, Any], body: bytes, source: random.Random) -> tuple[dict[str, Any], bytes]:
    """One tensor of a safetensors file removed, doubled, of another type, shape, place or content."""
    header, content = copy.deepcopy(header), bytearray(body)
    name = source.choice([name for name in header if name != "__metadata__"])
    tensor, what = header[name], source.random()
    begin, end = tensor["data_offsets"]
    if what < 0.1:
        del header[name]
    elif what < 0.2:
        header[source.choice((name + ".deflated", name + ".scale", "statistics.zz", "zz"))] = dict(tensor)
    elif what < 0.35:
        tensor["dtype"] = source.choice(TYPES)
    elif what < 0.45:
        tensor["data_offsets"] = source.choice(([0, 0], [-8, 0], [0, 2**63 - 1], [8, 4], [begin, end + 1]))
    elif what < 0.7:
        shape = list(tensor["shape"])
        if shape and source.random() < 0.7:
            shape[source.randrange(len(shape))] = source.choice(SIZES)
        else:
            shape = source.choice(
                ([], [0], [0, 2**31], [0, 2**62, 4], [1] * 70, shape[::-1], [*shape, 1], [0, 0, 2**40])
            )
        tensor["shape"] = shape
    elif end > begin and what < 0.85:
        for _ in range(source.randrange(1, 4)):
            content[source.randrange(begin, end)] = source.choice((0, 0xFF, 0x7F, source.randrange(256)))
    elif end > begin:
        content[begin:end] = source.choice((b"\xff", b"\x7f", b"\0", b"\x80")) * (end - begin)
    return header, bytes(content)


def fuzz(cases: Mapping[str, Case], count: int, seed: int, keep: Path | None = None) -> Counter[tuple[str, str]]:
    """Use `count` damaged inputs; returns how often each (case, outcome) came.

    A violation is raised as AssertionError, or, where there is a folder `keep`, its first input of a kind goes there.
    """
    source = random.Random(seed)
    tally: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        name = source.choice(sorted(cases))
        data = cases[name].damaged(source)
        outcome = "read"
        try:
            with tempfile.TemporaryDirectory() as folder, _limited():
                cases[name].use(data, Path(folder))
        except VqError as error:
            outcome = type(error).__name__
            assert "\n" not in str(error), f"{name}: {error!r}"
        except (Exception, TooSlow) as error:
            where = [frame for frame in traceback.extract_tb(error.__traceback__) if "vqcli" in frame.filename]
            place = f"{Path(where[-1].filename).name}:{where[-1].lineno}" if where else "elsewhere"
            outcome = f"VIOLATION {type(error).__name__} at {place}"
            if keep is None:
                raise AssertionError(f"mutation {number} of seed {seed}, {name}: {outcome}") from error
            if not tally[name, outcome]:
                stem = f"{name}-{seed}-{number}".replace("/", "-")
                (keep / stem).write_bytes(data)
                (keep / f"{stem}.txt").write_text(traceback.format_exc())
        tally[name, outcome] += 1
    return tally


@contextmanager
def _limited() -> Iterator[None]:
    """At most SECONDS of the block, on a processor however busy."""

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def main(about: str, cases: Callable[[], Mapping[str, Case]]) -> None:
    """The command line of a script."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="cases whose names begin so")
    parser.add_argument("--keep", type=Path, help="a folder for violations; without it, the first ends the run")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    chosen = {name: case for name, case in cases().items() if name.startswith(options.only or "")}
    for (name, outcome), times in sorted(fuzz(chosen, options.count, options.seed, options.keep).items()):
        print(f"{name:24} {outcome:40} {times:8}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
