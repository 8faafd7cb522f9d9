"""Many files at once: what becomes what, and what is skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from vqcli.errors import UsageError, VqError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `in_folder` if it was found in a folder rather than named."""

    source: Path
    target: Path
    in_folder: bool


def plan(inputs: list[Path], output: Path | None, suffixes: Collection[str], new_suffix: str) -> list[Job]:
    """Pair inputs with outputs.

    A file goes to `output`, or beside itself with the new suffix; several files and folders go into the folder
    `output`, which repeats the tree below each; a.jpg and a.png in one folder become a.jpg.vqz and a.png.vqz.
    Raises UsageError if that cannot be, or two files would still share an output.
    """
    many = len(inputs) > 1 or inputs[0].is_dir() or (output is not None and output.is_dir())
    jobs: list[Job] = []
    for path in inputs:
        if not path.is_dir():
            if output is None:
                target = path.with_suffix(new_suffix)
            else:
                target = output / path.with_suffix(new_suffix).name if many else output
            jobs.append(Job(path, target, in_folder=False))
            continue
        if output is None:
            raise UsageError(f"{path} is a folder: where should the results go?", "-o FOLDER")
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes and file.is_file()]
        if not found:
            raise UsageError(f"no {' '.join(sorted(suffixes))} files in {path}")
        jobs += [Job(file, output / file.relative_to(path).with_suffix(new_suffix), in_folder=True) for file in found]
    uses = Counter(job.target for job in jobs)
    jobs = [
        replace(job, target=job.target.with_name(job.source.name + new_suffix))
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
