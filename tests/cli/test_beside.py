import operator
import os
from pathlib import Path

import pytest

from vqcli.cli import beside as module
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
