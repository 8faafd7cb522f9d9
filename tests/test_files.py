"""Files that are written in one step or not at all, and folders of which nothing is left out in silence."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vqcli import files
from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.files import below, files_below, refuse_existing, replacing, sweep, temporary_folder


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Folders are swept once in a process."""
    sweep.cache_clear()


def write(path, data=b"new", force=False):
    with replacing(path, force=force) as stream:
        stream.write(data)


@pytest.fixture(params=["links", "no links"])
def system(request, monkeypatch):
    """File systems with hard links and without."""
    if request.param == "no links":

        def refuse(*paths):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


# ---------------------------------------------------------------- what is there already


@pytest.mark.fault("09 files that appear meanwhile")
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, system):
    with pytest.raises(UsageError, match="written meanwhile"), replacing(tmp_path / "x") as stream:
        stream.write(b"mine")
        (tmp_path / "x").write_bytes(b"another's")
    assert (tmp_path / "x").read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_new_file(tmp_path, system):
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new" and list(tmp_path.iterdir()) == [tmp_path / "x"]
    with pytest.raises(UsageError, match="exists"):
        write(tmp_path / "x")
    write(tmp_path / "x", b"newer", force=True)
    assert (tmp_path / "x").read_bytes() == b"newer" and list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.fault("08 links")
def test_links_stay_and_what_they_lead_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/x")
    write(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "x").read_bytes() == b"new"


@pytest.mark.fault("08 links")
def test_a_link_to_nothing_exists(tmp_path):
    (tmp_path / "link").symlink_to("nothing")
    for refuse in (lambda: refuse_existing(tmp_path / "link", False), lambda: write(tmp_path / "link")):
        with pytest.raises(UsageError, match="exists"):
            refuse()
    write(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "nothing").read_bytes() == b"new"


@pytest.mark.fault("08 pipes and devices")
@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_written_to(tmp_path, force):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(tmp_path / "pipe", force=force) as stream:
        stream.write(b"new")
        stream.seek(0)  # as formats do whose header has the length
        stream.write(b"N")
    reader.join(10)
    assert read == [b"New"] and (tmp_path / "pipe").is_fifo()


@pytest.mark.fault("08 pipes and devices")
@pytest.mark.parametrize("force", [False, True])
def test_a_device_stays(tmp_path, force):
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        write(tmp_path / "null", force=force)
    except (PermissionError, OutputError):
        pytest.skip("only root makes devices")
    assert (tmp_path / "null").is_char_device() and list(tmp_path.iterdir()) == [tmp_path / "null"]


@pytest.mark.fault("10 permissions")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_permissions_are_kept(tmp_path, mode):
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(mode)
    mask = os.umask(0o022)
    try:
        write(tmp_path / "x", force=True)
        write(tmp_path / "y")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == 0o644


@pytest.mark.fault("10 durable")
def test_the_folder_is_on_disk_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    write(tmp_path / "x")
    assert synced == [False, True]  # first what the file holds, then its name


# ---------------------------------------------------------------- what is left behind

KILLED = """
import os, signal, sys
from pathlib import Path
from vqcli.files import replacing, temporary_folder
with replacing(Path("x")) as stream, temporary_folder(Path(".")) as folder:
    stream.write(bytes(100))
    (folder / "000001.png").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault("10 temporary files")
def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parent.parent.parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment)
    assert killed.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    busy = tmp_path / ".vq-0123456789abcdef.tmp"
    with busy.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        (tmp_path / ".x.tmp").touch()  # of another program
        write(tmp_path / "y")
        assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, ".x.tmp", "y"]


@pytest.mark.fault("10 temporary files")
def test_a_link_that_is_named_as_if_left_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_bytes(b"1")
    (tmp_path / ".vq-0123456789abcdef.tmp").symlink_to("precious")
    (tmp_path / ".vq-1123456789abcdef.tmp").symlink_to("folder")
    write(tmp_path / "y")
    assert (tmp_path / "precious").exists() and (tmp_path / "folder" / "precious").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_nothing_is_left_after_an_error(tmp_path, error):
    with pytest.raises(error), replacing(tmp_path / "x") as stream:
        stream.write(b"half")
        raise error
    with pytest.raises(error), temporary_folder(tmp_path) as folder:
        (folder / "half").touch()
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("17 long names")
@pytest.mark.parametrize("name", ["ü" * 120, "字" * 80, "n" * 250])
def test_names_that_are_as_long_as_a_name_can_be(tmp_path, name):
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.fault("17 long names")
def test_a_name_that_is_too_long_is_one_line(tmp_path):
    for refuse in (lambda: refuse_existing(tmp_path / ("n" * 300), False), lambda: write(tmp_path / ("n" * 300))):
        with pytest.raises(OutputError, match="too long"):
            refuse()


# ---------------------------------------------------------------- what lies in folders


@pytest.mark.fault("05 folders")
def test_nothing_in_a_folder_is_left_out_in_silence(tmp_path, monkeypatch):
    for name in ("a.png", "deep/b.png", "locked/c.png", ".git/d.png", "._a.png", "deep/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to("deep")
    (tmp_path / "gone.png").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.png")
    scan = os.scandir

    def refuse(path):  # root may read all
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, left_out = below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.png", "deep/b.png"]
    assert {path.name: reason for path, reason in left_out} == {
        "gone.png": "a link to nothing",
        "linked": "a link to a folder",
        "locked": "Permission denied",
        "pipe.png": "neither a file nor a folder",
    }
    with pytest.raises(BadFile, match="locked cannot be read: Permission denied"):
        files_below(tmp_path)
