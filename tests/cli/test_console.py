"""How commands talk: -q and -v in all of them, bars in terminals alone."""

import io
import re
import sys
import time

import pytest
import typer

from vqcli import progress
from vqcli.cli import bars, console
from vqcli.cli.main import app


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_in(monkeypatch):
    """A terminal as stderr, on which bars appear at once. (pytest sets stderr anew after fixtures.)"""
    monkeypatch.setattr(bars, "APPEARS_S", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(console, "volume", console.Volume.NORMAL)
    return terminal


def commands(command=None, name="vq"):
    command = command or typer.main.get_command(app)
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


def test_every_command_can_be_quiet_and_verbose():
    found = {name: {option for each in command.params for option in each.opts} for name, command in commands()}
    assert len(found) > 30
    assert all({"--quiet", "--verbose", "-v"} <= options for options in found.values())
    elsewhere = [
        name
        for name, command in commands()
        for each in command.params
        if "--quiet" in each.opts and "-q" not in each.opts
    ]
    assert elsewhere == ["vq encode", "vq eval lossless"]  # where -q is --quality


def test_quiet_leaves_errors_and_verbose_adds_the_model(vq, photo):
    assert "photo.png" in vq("encode", photo, "--model", "scalar").stderr
    assert vq("encode", photo, "--model", "scalar", "--force", "--quiet").stderr == ""
    assert vq("-q", "encode", photo, "--model", "scalar", "--force").stderr == ""
    loud = vq("encode", photo, "--model", "scalar", "--force", "-v").stderr
    assert re.search(r"^loading model scalar: \d+\.\d s$", loud, re.MULTILINE)
    refused = vq("encode", photo, "--model", "scalar", "--quiet")
    assert "exists" in refused.stderr and refused.exit_code == 2
    assert "exists" in vq("encode", photo, "--model", "scalar").stderr  # and the next one is not quiet


def test_no_bar_goes_into_a_pipe(vq, photo, monkeypatch):
    monkeypatch.setattr(bars, "APPEARS_S", 0.0)
    said = vq("encode", photo, "--model", "scalar", "--verify")
    assert said.exit_code == 0 and "\x1b" not in said.stderr + said.stdout


def test_how_far_a_job_is_in_items_bytes_and_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    job = bars.Job("measuring", 8, "images", 4_000_000, begun=100.0)
    now[0] = 112.0
    assert job.said() == "12 s so far"
    job.advance(0.25, "kodim02")
    job.first = (100.0, 0.0)
    assert job.said() == "2 of 8 images, 1.00 MB of 4.00 MB, 36 s left, kodim02"
    resumed = bars.Job("training")
    resumed.advance(0.5)  # what was done before took no time of this process
    now[0] += 300
    resumed.advance(0.75)
    assert resumed.said() == "5 min left"


def test_a_terminal_sees_a_bar_and_keeps_the_lines_beside_it(monkeypatch):
    terminal = terminal_in(monkeypatch)
    with console.progress("measuring", 4, "image") as advance:
        advance(0.5)
        until(lambda: "2 of 4 images" in terminal.getvalue())
        with progress_watched("compiling"):
            until(lambda: "compiling" in terminal.getvalue())
            console.say("a line")
    text = terminal.getvalue()
    assert "a line\n" in text
    assert text.index("a line\n") < text.rindex("measuring"), "the bar comes back after a line"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0, "the cursor is shown again"


def until(happened):
    for _ in range(200):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def progress_watched(what):
    progress.watch(console.step)
    return progress.step(what)


@pytest.mark.parametrize("setting", ["TERM", "quiet"])
def test_no_bar_for_dumb_terminals_and_none_when_quiet(monkeypatch, setting):
    terminal = terminal_in(monkeypatch)
    if setting == "TERM":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(console, "volume", console.Volume.QUIET)
    with console.progress("measuring") as advance:
        advance(0.5)
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_compilation_is_said_once_for_all_that_one_call_compiles():
    from vqcli.entropy import jit

    seen = []

    class Watched:
        def __init__(self, what):
            self.what = what

        def __enter__(self):
            seen.append(self.what)

        def __exit__(self, *raised):
            seen.append("done")

    progress.watch(Watched)
    try:
        inner = jit.numba.njit(lambda x: x + 1)
        jit.numba.njit(lambda x: inner(x) * 2)(3)
    finally:
        progress.watch(console.step)
    assert seen == ["compiling for this processor, once, about 10 s", "done"]
