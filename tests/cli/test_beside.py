import operator
import os
import time
from pathlib import Path

import pytest

from vqcli.cli import beside as module
from vqcli.cli import console
from vqcli.cli.bars import Bars
from vqcli.cli.beside import beside
from vqcli.errors import VqError
from vqcli.files import make_folder


def pid_unless(parent):
    """A number that tells which process ran this; the process dies unless it is `parent`."""
    if os.getpid() != parent:
        os._exit(1)
    return parent


def test_another_process_calls(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 2)
    with beside(os.getpid) as other, beside(make_folder, Path("/dev/null/folder")) as failing:
        assert other() != os.getpid()
        with pytest.raises(VqError, match="/dev/null"):
            failing()


def test_this_process_calls_where_the_other_dies(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 2)
    with beside(operator.attrgetter("no_such_name"), 1) as defect, beside(pid_unless, os.getpid()) as dying:
        assert dying() == os.getpid()
        with pytest.raises(RuntimeError, match="no_such_name"):
            defect()


def test_this_process_calls_where_there_is_one_core(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 1)
    with beside(os.getpid) as other:
        assert other() == os.getpid()


def walk_in_steps(steps):
    with console.progress("walking", steps, "step") as progress:
        for done in range(steps):
            progress((done + 1) / steps, "uphill")
            time.sleep(module.OFTEN_S * 1.2)
    console.detail("at the top")


def test_jobs_of_the_other_process_are_shown_here(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 2)
    shown = []

    class Recorded(Bars):
        def update(self, job):
            shown.append((job.label, job.said()))

    monkeypatch.setattr(console, "bars", Recorded())
    monkeypatch.setattr(console, "volume", console.Volume.VERBOSE)
    said = []
    monkeypatch.setattr(console, "say", said.append)
    with beside(walk_in_steps, 3) as other:
        other()
    assert [label for label, _ in shown] == ["walking"] * len(shown)
    assert shown[-1][1].startswith("3 of 3 steps, ") and shown[-1][1].endswith("uphill")
    assert said == ["at the top"]
