"""Many files at once: what becomes what, what is skipped, and what is left out."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from vqcli.errors import BadFile, UsageError, VqError, explained
from vqcli.files import LeftOut, below, make_folder, sweep

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `in_folder` if it was found in a folder rather than named.

    `name` is its path below that folder, or its own name: what stays the same wherever the files lie.
    """

    source: Path
    target: Path
    in_folder: bool
    name: str


@dataclass(frozen=True)
class Plan:
    """The jobs, and what in folders is none although it may have been meant."""

    jobs: list[Job]
    left_out: list[LeftOut]


def plan(
    inputs: list[Path],
    output: Path | None,
    suffixes: Collection[str],
    new_suffix: str | Callable[[Path], str],
    unread: Collection[str] = (),
) -> Plan:
    """Pair inputs with outputs, whose suffix is one for all or hangs on the input.

    A file goes to `output`, or beside itself with the new suffix in place of one of `suffixes`, or behind any other;
    several files and folders go into the folder `output`, which repeats the tree below each; a.jpg and a.png in one
    folder become a.jpg.vqz and a.png.vqz. Files in folders with a suffix of `unread` are left out.
    Raises UsageError if that cannot be, or two files would still share an output; BadFile for an unreadable folder.
    """
    suffix_for = new_suffix if callable(new_suffix) else lambda path: new_suffix

    def renamed(path: Path) -> Path:
        stem = path.stem if path.suffix.lower() in suffixes else path.name  # scan.1 and scan.2 are names, not suffixes
        return path.with_name(stem + suffix_for(path))

    many = len(inputs) > 1 or inputs[0].is_dir() or (output is not None and output.is_dir())
    jobs: list[Job] = []
    left_out: list[LeftOut] = []
    for path in inputs:
        if not path.is_dir():
            target = renamed(path) if output is None else output / renamed(path).name if many else output
            jobs.append(Job(path, target, False, path.name))
            continue
        if output is None:
            raise UsageError(f"{path} is a folder: where should the results go?", "-o FOLDER")
        files, unreadable = below(path)
        found = [file for file in files if file.suffix.lower() in suffixes]
        left_out += unreadable
        left_out += [LeftOut(file, f"vq cannot read {file.suffix}") for file in files if file.suffix.lower() in unread]
        if not found:
            hint = f"{left_out[0].path}: {left_out[0].reason}" if left_out else ""
            raise (BadFile if unreadable else UsageError)(f"no {' '.join(sorted(suffixes))} files in {path}", hint)
        for file in found:
            target = output / renamed(file).relative_to(path)
            jobs.append(Job(file, target, True, file.relative_to(path).as_posix()))
    return Plan(_apart(jobs, suffix_for), left_out)


def _apart(jobs: list[Job], suffix_for: Callable[[Path], str]) -> list[Job]:
    """The jobs with the whole name of the source in targets that several would share."""
    uses = Counter(job.target for job in jobs)
    jobs = [
        replace(job, target=job.target.with_name(job.source.name + suffix_for(job.source)))
        if job.in_folder and uses[job.target] > 1
        else job
        for job in jobs
    ]
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.target in seen:
            raise UsageError(
                f"{seen[job.target]} and {job.source} would both become {job.target}", "rename one of them"
            )
        seen[job.target] = job.source
    return jobs


# (this process, all of them) as torchrun, Slurm and MPI set them for their processes
_RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)


def part_of(part: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(index from 0, count) of one part of many: `part` is '2/8', or 'auto' for what torchrun, Slurm or MPI says.

    Raises UsageError for a part that is none.
    """
    if part == "auto":
        ranks = [(environment[own], environment[of]) for own, of in _RANKS if own in environment and of in environment]
        if not ranks:
            raise UsageError("--shard auto: neither torchrun, Slurm nor MPI started this", "--shard 1/4, 2/4, ...")
        index, count = int(ranks[0][0]), int(ranks[0][1])
    else:
        match = re.fullmatch(r"(\d+)/(\d+)", part)
        index, count = (int(match[1]) - 1, int(match[2])) if match else (-1, 0)
    if not 0 <= index < count:
        raise UsageError(f"--shard {part} is no part", "1/4 to 4/4, or auto under torchrun, Slurm or MPI")
    return index, count


def shard(jobs: list[Job], part: str, environment: Mapping[str, str] = os.environ) -> list[Job]:
    """The jobs of one part of many (`part_of`).

    Names decide, so files keep their part when others come or go, and all parts together are all jobs.
    Raises UsageError for a part that is none.
    """
    index, count = part_of(part, environment)
    return [job for job in jobs if int.from_bytes(hashlib.sha256(job.name.encode()).digest()[:8]) % count == index]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of a job: its result, or the error that stopped it, or neither if its output was there already."""

    job: Job
    result: Result | None = None
    error: VqError | None = None

    @property
    def skipped(self) -> bool:
        return self.result is None and self.error is None


def run(jobs: list[Job], work: Callable[[Job], Result], *, force: bool) -> Iterator[Outcome[Result]]:
    """Do the jobs one after another. In folders a bad file does not stop the rest, and what exists is skipped."""
    alone = len(jobs) == 1 and not jobs[0].in_folder
    for job in jobs:
        if job.in_folder and not force and os.path.lexists(job.target):
            sweep(job.target.parent)
            yield Outcome(job)
            continue
        try:
            if not alone:
                make_folder(job.target.parent)
            outcome = Outcome(job, result=work(job))
        except Exception as error:
            told = explained(error)
            if alone or told is None:
                raise
            outcome = Outcome(job, error=told)
        yield outcome
