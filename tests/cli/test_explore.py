"""vq explore listens on this machine only, unless it is told otherwise."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture
def quiet(monkeypatch):
    """Nothing is served, and what would be is kept."""
    from vqcli.web import serving

    made = []
    monkeypatch.setattr(serving, "serve", lambda place, *rest: made.append((place.getsockname()[0], *rest)))
    return made


def test_it_listens_on_this_machine(vq, quiet):
    done = vq("explore", "--port", "0", "--max-upload", "1.5", "--max-pixels", "1000", "--max-seconds", "2")
    [(address, host, _, settings)] = quiet
    assert address == host == "127.0.0.1" and "warning" not in done.stderr
    assert re.match(r"http://127\.0\.0\.1:\d+/ \(the API", done.stderr)
    assert settings.most_upload == 1_500_000 and (settings.limits.pixels, settings.limits.seconds) == (1000, 2)


def test_others_are_let_in_with_a_warning(vq, quiet):
    done = vq("explore", "--port", "0", "--host", "0.0.0.0")
    assert quiet[0][0] == "0.0.0.0" and "warning: whoever can reach 0.0.0.0" in done.stderr


def test_a_port_that_is_taken(vq, quiet):
    from vqcli.web import serving

    with serving.listening("127.0.0.1", 0) as place:
        done = vq("explore", "--port", str(place.getsockname()[1]))
    assert done.exit_code == 6 and "cannot listen at 127.0.0.1" in done.stderr and "--port" in done.stderr and not quiet


def test_the_extra_is_named(vq, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else found(name, *rest)
    )
    done = vq("explore")
    assert done.exit_code == 2 and "pip install 'vqcli[web]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(tmp_path, number):
    command = [sys.executable, "-m", "vqcli", "explore", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ) as server:
        url = server.stderr.readline().split()[0]
        assert b"vq explore" in urllib.request.urlopen(url, timeout=60).read()
        server.send_signal(number)
        assert server.wait(30) == 0 and server.stderr.read() == "ended\n"
    assert not [*tmp_path.iterdir()]
