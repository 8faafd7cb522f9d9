"""Many files at once: what becomes what, and what is skipped."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from vqcli.errors import UsageError, VqError

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


def plan(
    inputs: list[Path], output: Path | None, suffixes: Collection[str], new_suffix: str | Callable[[Path], str]
) -> list[Job]:
    """Pair inputs with outputs, whose suffix is one for all or hangs on the input.

    A file goes to `output`, or beside itself with the new suffix; several files and folders go into the folder
    `output`, which repeats the tree below each; a.jpg and a.png in one folder become a.jpg.vqz and a.png.vqz.
    Raises UsageError if that cannot be, or two files would still share an output.
    """
    suffix_for = new_suffix if callable(new_suffix) else lambda path: new_suffix
    many = len(inputs) > 1 or inputs[0].is_dir() or (output is not None and output.is_dir())
    jobs: list[Job] = []
    for path in inputs:
        if not path.is_dir():
            if output is None:
                target = path.with_suffix(suffix_for(path))
            else:
                target = output / path.with_suffix(suffix_for(path)).name if many else output
            jobs.append(Job(path, target, False, path.name))
            continue
        if output is None:
            raise UsageError(f"{path} is a folder: where should the results go?", "-o FOLDER")
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes and file.is_file()]
        if not found:
            raise UsageError(f"no {' '.join(sorted(suffixes))} files in {path}")
        for file in found:
            below = file.relative_to(path)
            jobs.append(Job(file, output / below.with_suffix(suffix_for(file)), True, below.as_posix()))
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


def shard(jobs: list[Job], part: str, environment: Mapping[str, str] = os.environ) -> list[Job]:
    """The jobs of one part of many: `part` is '2/8', or 'auto' for what torchrun, Slurm or MPI says.

    Names decide, so files keep their part when others come or go, and all parts together are all jobs.
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
        if job.in_folder and job.target.exists() and not force:
            yield Outcome(job)
            continue
        try:
            if not alone:
                job.target.parent.mkdir(parents=True, exist_ok=True)
            yield Outcome(job, result=work(job))
        except VqError as error:
            if alone:
                raise
            yield Outcome(job, error=error)
