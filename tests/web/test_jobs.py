"""One job runs at a time; those that wait know their place; files go when there is no more room."""

import threading
import time

import numpy as np
import pytest

from vqcli.container.bounds import Limits
from vqcli.errors import BadFile, OutputError
from vqcli.media import audio, image
from vqcli.web import files as storage
from vqcli.web import jobs as queue
from vqcli.web.files import Files, Gone
from vqcli.web.jobs import Full, Jobs, Outcome
from vqcli.web.workspace import Workspace


@pytest.fixture
def jobs():
    made = Jobs(most_waiting=2, longest_s=0.5)
    yield made
    made.close()


def ended(jobs, job):
    until = time.monotonic() + 10
    while not job.ended and time.monotonic() < until:
        time.sleep(0.002)
    return jobs.state(job)


def test_one_at_a_time_in_turn(jobs):
    go, begun = threading.Event(), threading.Event()

    def work(progress):
        progress(0.5)
        begun.set()
        go.wait(10)
        return Outcome({}, {"done": True}), ("part",)

    first = jobs.add("encode", work)
    assert begun.wait(10)
    second, third = jobs.add("encode", work), jobs.add("decode", work)
    states = [jobs.state(job) for job in (first, second, third)]
    assert [(each.state, each.position) for each in states] == [("running", 0), ("waiting", 1), ("waiting", 2)]
    assert states[0].progress == 0.5
    with pytest.raises(Full, match="2 jobs wait already"):
        jobs.add("encode", work)
    assert jobs.cancel(second.id) is second and jobs.state(third).position == 1
    go.set()
    assert ended(jobs, third).result == Outcome({}, {"done": True}) and first.view == ("part",)
    assert jobs.state(second).state == "cancelled" and jobs.get(first.id) is first


def test_work_ends_when_it_is_told_to_or_takes_too_long(jobs, capsys):
    begun = threading.Event()

    def forever(progress):
        while True:
            begun.set()
            progress(0.1)
            time.sleep(0.002)

    job = jobs.add("encode", forever)
    assert begun.wait(10)
    jobs.cancel(job.id)
    assert ended(jobs, job).state == "cancelled" and ended(jobs, job).error is None
    late = ended(jobs, jobs.add("encode", forever))
    assert late.state == "failed" and "longer than" in late.error.message
    assert not capsys.readouterr().err


def test_errors_are_told_and_defects_written_down(jobs, capsys):
    def fails(error):
        def work(progress):
            raise error

        return ended(jobs, jobs.add("decode", work)).error

    told = fails(BadFile("it is no image", "send one"))
    assert (told.kind, told.message, told.hint) == ("BadFile", "it is no image", "send one")
    assert fails(MemoryError()).message == "not enough memory" and not capsys.readouterr().err
    defect = fails(KeyError("secret"))
    assert defect.kind == "Defect" and "secret" not in defect.message and "Traceback" in capsys.readouterr().err


def test_old_jobs_are_forgotten(jobs):
    first = jobs.add("encode", lambda progress: (Outcome({}), ()))
    ended(jobs, first)
    for _ in range(queue.KEPT):
        ended(jobs, jobs.add("encode", lambda progress: (Outcome({}), ())))
    with pytest.raises(Gone):
        jobs.get(first.id)


def test_the_least_used_files_go_first():
    files = Files(100)
    a, b = (files.add(bytes(40), "x", "image/png", "image").id for _ in range(2))
    files.get(a)
    c = files.add(bytes(40), "x", "image/png", "image").id
    assert len(files) == 2 and files.size_bytes == 80 and files.get(a) and files.get(c)
    with pytest.raises(Gone, match="there is no file"):
        files.get(b)
    large = files.add(bytes(400), "x", "image/png", "image").id
    assert len(files) == 1 and len(files.get(large).data) == 400
    files.drop(large)
    assert not len(files)
    made = [files.once(("a",), lambda: files.add(b"x", "x", "image/png", "image")) for _ in range(2)]
    assert made[0] == made[1] and len(files) == 1


@pytest.mark.fault("22 uploads")
def test_a_result_that_is_too_large_is_not_written_to_its_end():
    workspace = Workspace(Files(2000), None, Limits())
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(OutputError, match="larger than 2"):
        workspace.add(lambda to, kind: image.write(to, noise, format=kind), "x", "png", "image")
    with pytest.raises(OutputError, match="larger than 2"):
        workspace.add(
            lambda to, kind: audio.write(to, noise.reshape(1, -1) / 512, 16_000, format=kind), "x", "flac", "audio"
        )
    assert not len(workspace.files)


@pytest.mark.fault("22 uploads")
def test_small_files_are_counted_too(monkeypatch):
    monkeypatch.setattr(storage, "MOST_FILES", 3)
    files = Files(100)
    first, *others = [files.add(b"x", "x", "image/png", "image").id for _ in range(4)]
    assert len(files) == 3 and all(map(files.get, others))
    with pytest.raises(Gone):
        files.get(first)
