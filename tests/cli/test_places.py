"""What commands say and leave behind where files, folders, streams and names are not as one would wish."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vqcli.cli import console, main
from vqcli.cli.options import place
from vqcli.errors import explained
from vqcli.media import image
from vqcli.zoo import store

SCALAR = ("--model", "scalar", "--coder", "packed")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(main.__file__).parents[2])}


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, **options)


# ---------------------------------------------------------------- folders


@pytest.mark.fault("05 folders")
def test_what_is_left_out_is_said(vq, photo):
    Path("in/.git").mkdir(parents=True)
    for name in ("in/a.jp2", "in/b.m4a", "in/._photo.png", "in/.git/c.png", "in/notes.txt"):
        Path(name).touch()
    Path("in/linked").symlink_to("..")
    photo.rename("in/photo.png")
    result = vq("encode", "in", "-o", "out", "--coder", "packed", "--model", "scalar", "--verbose")
    assert result.exit_code == 3 and "2 left out:" in result.stderr
    assert "in/a.jp2: vq cannot read .jp2" in result.stderr and "in/linked: a link to a folder" in result.stderr
    assert [path.name for path in Path("out").rglob("*")] == ["photo.vqz"]
    assert "2 left out (-v lists them)" in vq("encode", "in", "-o", "out", *SCALAR).stderr


@pytest.mark.fault("19 names of results")
def test_numbers_are_no_suffixes(vq, photo):
    for name in ("scan.1", "scan.2"):
        Path(name).write_bytes(photo.read_bytes())
    assert vq("encode", "scan.1", "scan.2", "-o", "out", *SCALAR).exit_code == 0
    assert vq("encode", "scan.1", *SCALAR).exit_code == 0 and Path("scan.1.vqz").is_file()
    assert sorted(path.name for path in Path("out").iterdir()) == ["scan.1.vqz", "scan.2.vqz"]


@pytest.mark.fault("19 names of results")
def test_a_slash_means_a_folder(vq, photo):
    assert vq("encode", photo, "-o", "new/", *SCALAR).exit_code == 0
    assert vq("decode", "new/photo.vqz", "-o", "back.d/").exit_code == 0
    assert Path("new/photo.vqz").is_file() and Path("back.d/photo.png").is_file()
    assert place("there/").is_dir() and not place("elsewhere").exists()


@pytest.mark.fault("19 names of results")
@pytest.mark.parametrize("name", ["x.npy", "x.png", "x.wav", "x.MP4", "x.safetensors"])
def test_codes_do_not_get_the_name_of_another_format(vq, photo, name):
    result = vq("encode", photo, "-o", name, *SCALAR)
    assert result.exit_code == 2 and ".vqz" in result.stderr and not Path(name).exists()


@pytest.mark.fault("18 --format a/b")
@pytest.mark.parametrize("command", ["decode", "export"])
def test_formats_that_are_none(vq, photo, command):
    vq("encode", photo, *SCALAR)
    result = vq(command, "photo.vqz", "--format", "a/b")
    assert result.exit_code == 2 and result.stderr.startswith("vq: --format a/b")


@pytest.mark.fault("09 files that appear meanwhile")
def test_in_a_folder_what_exists_is_left(vq, photo):
    Path("in").mkdir()
    photo.rename("in/photo.png")
    Path("out").mkdir()
    Path("out/photo.vqz").symlink_to("nothing")
    result = vq("encode", "in", "-o", "out", *SCALAR)
    assert "1 file skipped" in result.stderr and Path("out/photo.vqz").is_symlink()


# ---------------------------------------------------------------- streams


@pytest.mark.fault("19 pipes")
def test_a_clip_from_a_pipe(vq):
    pytest.importorskip("av")
    import numpy as np

    from vqcli.media import video_writing

    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    video_writing.write(Path("clip.mp4"), frames, 10_000)
    with Path("clip.mp4").open("rb") as clip, subprocess.Popen(["cat"], stdin=clip, stdout=subprocess.PIPE) as pipe:
        from vqcli import api

        assert api.encode(pipe.stdout, "scalar", coder="packed").n_frames == 3


@pytest.mark.fault("19 pipes")
@pytest.mark.parametrize("options", [SCALAR, ()])
def test_a_pipe_of_text_has_no_name(vq, options):
    result = vq("encode", "-", *options, input=b"hello")
    assert result.exit_code != 0 and "None" not in result.stderr


@pytest.mark.fault("07 closed stderr")
def test_status_never_goes_to_stdout(vq, photo, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    console.say("status")
    assert capsys.readouterr().out == ""


@pytest.mark.fault("07 closed stderr")
def test_closed_descriptors_are_not_taken_by_files(tmp_path):
    code = (
        "import os, sys; from vqcli.cli.main import prepare_process\n"
        "os.close(2); prepare_process(); file = os.open('x', os.O_CREAT | os.O_WRONLY)\n"
        "os.write(2, b'noise of a library'); sys.exit(file <= 2)"
    )
    assert python(code, cwd=tmp_path).returncode == 0 and (tmp_path / "x").read_bytes() == b""


@pytest.mark.fault("19 closed streams")
def test_closed_streams_are_one_line(vq, photo, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(Exception, match="standard output is closed") as caught:
        console.emit("x")
    assert caught.value.exit_code == 6
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Exception, match="standard input is closed") as caught:
        console.data_in()
    assert caught.value.exit_code == 3


@pytest.mark.fault("17 full disks")
def test_a_full_stdout_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    golden = Path(__file__).parents[1] / "golden" / "photo.vqz"
    code = f"import sys; sys.argv = ['vq', 'info', {str(golden)!r}]; from vqcli.cli.main import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 6
    assert done.stderr.decode() == "vq: cannot write to standard output: No space left on device\n"


# ---------------------------------------------------------------- errors


@pytest.mark.fault("17 one line")
@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        (PermissionError(13, "Permission denied", "photo.vqz"), "vq: photo.vqz: Permission denied", 3),
        (OSError(28, "No space left on device", "photo.vqz"), "vq: photo.vqz: No space left on device", 6),
        (OSError(30, "Read-only file system"), "vq: Read-only file system", 6),
        (MemoryError(), "vq: not enough memory", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "vq: not enough memory", 1),
        (RecursionError(), "vq: an input is nested too deeply", 3),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "vq: an input is not utf-8 text", 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses(vq, monkeypatch, error, says, code):
    def fail(name):
        raise error

    monkeypatch.setattr(store, "find", fail)
    result = vq("info", "scalar")
    assert result.exit_code == code and result.stderr.startswith(says) and isinstance(result.exception, SystemExit)


def test_defects_keep_their_traceback():
    assert explained(KeyError("x")) is None and explained(RuntimeError("x")) is None


@pytest.mark.fault("17 one line")
def test_one_file_of_many_that_the_system_refuses(vq, photo, monkeypatch):
    Path("in").mkdir()
    Path("in/a.png").write_bytes(photo.read_bytes())
    photo.rename("in/b.png")
    read = image.read

    def fail(source, **options):
        if source.name == "a.png":
            raise MemoryError
        return read(source, **options)

    monkeypatch.setattr(image, "read", fail)
    result = vq("encode", "in", "-o", "out", *SCALAR)
    assert result.exit_code == 3 and "not enough memory" in result.stderr and Path("out/b.vqz").exists()


@pytest.mark.fault("10 signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_clean_up(tmp_path, name):
    code = (
        "import os, signal, sys; from pathlib import Path; from vqcli.cli import main, info; import vqcli.zoo.store\n"
        "from vqcli.files import replacing\n"
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"  # nohup has it ignored, and vq leaves it so
        "def slow(*given):\n"
        "    with replacing(Path('x')) as stream:\n"
        f"        stream.write(b'half'); os.kill(os.getpid(), signal.{name}); signal.pause()\n"
        "info.facts_of = slow; sys.argv = ['vq', 'info', 'x']; main.main()"
    )
    done = python(code, cwd=tmp_path, timeout=60)
    assert done.returncode == 128 + getattr(signal, name) and done.stderr == b"vq: interrupted\n"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- names


@pytest.mark.fault("17 names")
def test_names_that_are_not_utf_8(vq, photo):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        photo.rename(name)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    result = vq("encode", name, "--json", *SCALAR)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.isascii() and json.loads(result.stdout)[0]["source"] == name
    assert "caf\\udce9.vqz exists" in vq("encode", name, *SCALAR).stderr
    assert "caf\\udce9.vqz" in vq("info", os.fsdecode(b"caf\xe9.vqz")).stdout


@pytest.mark.fault("17 terminals")
@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "utf-8:strict"])
def test_terminals_that_know_few_letters(encoding):
    code = (
        "from vqcli.cli import console, main; main.prepare_process()\n"
        "console.emit('字 é \\udce9'); console.emit_table(['字'], [['é']]); console.say('字'); console.emit_json('é')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT | {"PYTHONIOENCODING": encoding}, capture_output=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.fault("19 escape sequences")
@pytest.mark.parametrize("escape", ["\x1b]0;owned\x07", "\x9b31m", "\u202e", "\x1b[2J"])
def test_escape_sequences_do_not_reach_the_terminal(vq, scalar_model, photo, capsys, escape):
    photo.rename(f"{escape}.png")
    outputs = [vq("encode", f"{escape}.png", *SCALAR), vq("info", f"{escape}.vqz"), vq("decode", f"{escape}.none")]
    outputs += [vq("info", f"{escape}.vqz", "--json"), vq(f"{escape}"), vq("encode", "--model", f"{escape}", "x.png")]
    said = "".join(output.stdout + output.stderr for output in outputs)
    console.emit_table([escape], [[escape]])
    console.emit(escape)
    said += "".join(capsys.readouterr())
    assert not any(each in said for each in escape if not each.isprintable())


# ---------------------------------------------------------------- info, voices


@pytest.mark.fault("19 vq info")
def test_info_of_many_files(vq, photo):
    vq("encode", photo, *SCALAR)
    both = vq("info", "photo.vqz", "scalar", "--json")
    assert [row["model"] for row in json.loads(both.stdout)] == ["scalar", "scalar"]
    one = vq("info", "photo.vqz", "nothing.vqz")
    assert one.exit_code == 3 and "nothing.vqz" in one.stderr and "photo.vqz" in one.stdout


@pytest.mark.fault("19 unknown voices")
def test_hints_list_few_names():
    from vqcli.errors import near_matches

    names = [f"p{number}" for number in range(300)]
    assert near_matches("p22", names, "vq models show speech").endswith("vq models show speech lists all")
    assert near_matches("zzz", names, "vq models show speech") == "vq models show speech lists all"
    assert near_matches("zzz", names).endswith("and 280 more")
