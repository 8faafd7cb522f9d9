"""Actors of a Ray cluster that hold the model, one shard at a time each (extra `ray`).

Ray Data places the actors and hands them shards; what a lost worker or a lost machine had in hand it makes again
elsewhere. Without an address the cluster is one of this machine alone, which ends with the run. The machines of a
cluster must see source, destination and model under the same paths, as by a shared folder; a worker that does not
says so.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.errors import UsageError, VqError
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.tokens import engines, plan
from vqcli.tokens.answers import answer, record_of
from vqcli.tokens.plan import Moved, Record, Shard

if TYPE_CHECKING:
    from vqcli.tokens.work import Task

TRIES = 5  # of a shard whose worker dies, or whose machine
ROUND = 64  # shards for each worker that Ray holds at once; a million shards would fill this process
OBJECTS = 2**28  # bytes of Ray's object store on this machine: shards are lists of names, records smaller still
SETTINGS = {  # of Ray, unless the user has others
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning less
    "RAY_worker_niceness": "0",  # Ray's own 15 lets all other work of a machine go first
}


def prepare(workers: int | None, address: str | None) -> None:
    """Raises UsageError where Ray is not installed."""
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs an extra", "pip install 'vqcli[ray]'")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def run(
    task: Task, shards: Iterable[Shard], workers: int | None, address: str | None, moved: Moved
) -> Iterator[Record]:
    """The records of shards as they are done; what goes on within one is not known here.

    `address` None: the cluster that RAY_ADDRESS names, or one of this machine. `workers` None: one for each accelerator
    of the cluster, or for each CPU but one: actors that take every CPU leave none for Ray's own tasks.
    Raises UsageError for a cluster that cannot be reached, VqError for a shard whose workers die.
    """
    rest = iter(shards)
    first = list(islice(rest, 1))
    if not first:
        return
    import ray

    ours = not ray.is_initialized()
    if ours:
        _connect(address or os.environ.get("RAY_ADDRESS"), workers)
    try:
        arguments, count = _placed(task, workers, ray.cluster_resources())
        some = [*first, *islice(rest, count * ROUND - 1)]
        while some:
            yield from _round(task, some, arguments, count)
            some = list(islice(rest, count * ROUND))
    except ray.exceptions.RayError as error:
        raise VqError(f"Ray: {' '.join(str(error).split())[:300]}", "`ray status` shows the cluster") from None
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None, workers: int | None) -> None:
    import ray

    here: dict[str, Any] = {}
    if address in (None, "local"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        here = {"num_cpus": (workers or cores) + 1, "object_store_memory": OBJECTS, "include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except Exception as error:  # of a machine where Ray does not begin in time it is a plain Exception
        text = " ".join(str(error).split())[:200]
        if here:
            with suppress(Exception):
                ray.shutdown()  # what has begun
            raise VqError(f"Ray does not begin: {text}", "is the machine busy? the same command goes on") from None
        raise UsageError(
            f"no Ray cluster at {address}: {text}",
            "`ray start --head` begins one; where it asks for a token, RAY_AUTH_MODE=token",
        ) from None


def _placed(task: Task, workers: int | None, resources: dict[str, float]) -> tuple[dict[str, Any], int]:
    """What each actor takes, and how many there are. More than the cluster has room for wait until it grows."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus and task.device in ("auto", "cuda"):
        return {"num_cpus": 1, "num_gpus": 1}, workers or gpus
    if task.device not in ("auto", "cpu"):
        raise UsageError(f"--device {task.device}: the cluster has no GPU", "--device cpu")
    return {"num_cpus": 1}, workers or max(1, cpus - 1)


def _round(task: Task, shards: list[Shard], arguments: dict[str, Any], workers: int) -> Iterator[Record]:
    """The records of some shards, each a block of its own: what Ray makes again is one shard."""
    import ray
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised as well
    data.DataContext.get_current().enable_progress_bars = False
    there = next((item.path for shard in shards for item in shard.items if _seen(item.path)), None)
    rows = [{"shard": pickle.dumps(shard)} for shard in shards]
    # Ray makes an actor that is lost, and its shard, again without end; with a limit it would give up while it still
    # waits for a machine that is gone
    tries = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).remote()
    made = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Actor,
        batch_size=1,
        compute=data.ActorPoolStrategy(size=min(workers, len(shards)), max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(task, str(Path.cwd()), engines.environment(), there, tries),
        **arguments,
    )
    for row in made.iter_rows():
        yield record_of(pickle.loads(row["answer"]))


def _seen(path: str) -> bool:
    """Whether a file is there, of this machine or of a store."""
    place = remote.place(path)
    return bool(place.kind()) if isinstance(place, Remote) else place.exists()


class Tries:
    """How often each shard was begun: one actor of a run, which the others ask."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        self._begun[number] += 1
        return self._begun[number]


class Actor:
    """A worker of the local engine, in Ray's hands.

    `folder` is where paths begin, `environment` what says where models lie, `there` a path that exists, `tries` the
    actor that counts them.
    """

    def __init__(self, task: Task, folder: str, environment: dict[str, str], there: str | None, tries: Any) -> None:
        self._task, self._there, self._tries = task, there, tries
        self._worker: Any = None
        os.environ.update(environment)
        with suppress(OSError):  # paths may all be absolute
            os.chdir(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """A shard in, its record or an error out."""
        return {"answer": [pickle.dumps(answer(partial(self._make, shard))) for shard in batch["shard"]]}

    def _make(self, pickled: bytes) -> Record:
        import ray

        from vqcli.tokens.work import Worker

        shard: Shard = pickle.loads(pickled)  # of the process that holds the plan
        if ray.get(self._tries.begin.remote(shard.number)) > TRIES:
            raise VqError(
                f"shard {shard.number}: {TRIES} workers died of it",
                "too little memory? fewer --workers, or a smaller --per-shard",
            )
        if self._worker is None:
            self._look()
            self._worker = Worker(self._task)
        made: Record = self._worker.make(shard)
        return made

    def _look(self) -> None:
        """Raises UsageError on a machine that does not see what the first one sees: no item of it would be found."""
        store = self._task.store
        unseen = store.place if plan.read_plan(store) != self._task.plan else self._there
        if unseen is not None and (unseen == store.place or not _seen(unseen)):
            raise UsageError(
                f"machine {os.uname().nodename} does not see {unseen}",
                "put source and destination into a folder that all machines of the cluster share",
            )
