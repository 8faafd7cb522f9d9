"""vq tokenize from and into stores of fsspec: the same bytes as in folders, and one line for what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from vqcli.errors import BadFile, OutputError
from vqcli.files import remote
from vqcli.files.remote import Remote, Unreachable
from vqcli.tokens.store import Store

fsspec = pytest.importorskip("fsspec")
ARGUMENTS = ("tokenize", "--model", "scalar", "--per-shard", 2, "--device", "cpu")


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def memory():
    """The files of memory://, none at first."""
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()

    def clear():
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]

    clear()
    yield system
    clear()


def put(system, root, folder):
    for name, data in files_in(folder).items():
        system.pipe_file(f"{root}/{name}", data)


def got(system, root):
    root = root.rstrip("/")
    return {name.removeprefix(f"{root}/"): system.cat_file(name) for name in system.find(root)}


def test_what_is_a_url():
    assert isinstance(remote.place("s3://b/a b/x.png"), Remote) and remote.place("file:///a/x") == Path("/a/x")
    assert remote.place("C:/x") == Path("C:/x") and remote.place("a//b") == Path("a/b")
    url = remote.place("https://me:secret@host/a/x.tar?sign=secret")
    assert (url.name, url.suffix, str(url.parent)) == ("x.tar", ".tar", "https://...host/a")
    assert "secret" not in str(url) and (Remote("s3://b/a/") / "x?.png").name == "x?.png"


def test_from_and_into_a_store(vq, pictures, memory):
    """A folder, tars and tables of a store: shards as those of files; checked, told of, gone on with."""
    assert vq(*ARGUMENTS, pictures, "-o", "local").exit_code == 3
    put(memory, "/in", pictures)
    memory.pipe_file("/in/.hidden/9.png", b"no")
    done = vq(*ARGUMENTS, "memory://in", "-o", "memory://out/set")
    assert done.exit_code == 3 and "7 items in 4 shards" in done.stderr, done.output
    local, far = files_in(Path("local")), got(memory, "/out/set")
    assert "memory://in/dog/8.png" in far["failed.jsonl"].decode()
    differ = {name for name in local.keys() | far.keys() if local.get(name) != far.get(name)}
    assert differ == {"failed.jsonl", "index/000003.json"}  # which name the file
    assert vq("tokenize", "--check", "memory://out/set").exit_code == 0
    assert json.loads(vq("tokenize", "--stats", "memory://out/set", "--json").stdout)["items"] == 7
    memory.rm_file("/out/set/index/000001.json")
    assert "holds no tokens" in vq("tokenize", "--check", "memory://out/other").stderr
    done = vq(*ARGUMENTS, "memory://in", "-o", "memory://out/set")
    assert "1 shard made, 3 were there" in done.stderr and got(memory, "/out/set") == far


def test_file_urls_are_folders(vq, pictures, tmp_path):
    assert vq(*ARGUMENTS, pictures, "-o", "local").exit_code == 3
    assert vq(*ARGUMENTS, f"file://{pictures}", "-o", f"file://{tmp_path}/far").exit_code == 3
    assert files_in(Path("local")) == files_in(Path("far"))
    assert vq("tokenize", "--check", f"file://{tmp_path}/far").exit_code == 0


def shards_alike(one, other):
    read = [{name: data for name, data in files.items() if name.startswith("shard")} for files in (one, other)]
    assert read[0] == read[1] and read[0]


def test_files_that_hold_items(vq, png, tar, tmp_path, memory):
    """Tars, tables, arrays, compressed or not, and lists of paths and URLs."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "stored.npz", images=pixels, labels=np.arange(5))
    np.savez_compressed(tmp_path / "packed.npz", x_train=pixels)
    tar("in.tar", {"a.cls": b"3", "a.png": png, "a.txt": b"one", "b.png": png, "b.cls": b"4"})
    parquet.write_table(pa.table({"image": [png, png, b"no"], "label": [1, 2, 3]}), tmp_path / "in.parquet")
    table = pa.table({"image": [png], "text": ["x"]})
    with pa.OSFile(str(tmp_path / "in.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "1.png").write_bytes(png)
    (tmp_path / "list.txt").write_text("1.png\tone\n\nnone.png\n")
    names = ("stored.npz", "packed.npz", "in.tar", "in.parquet", "in.arrow", "list.txt", "1.png")
    for name in names:
        memory.pipe_file(f"/in/{name}", (tmp_path / name).read_bytes())
    for name in names:
        code = 3 if name in ("in.parquet", "list.txt") else 0
        for source, place in ((name, f"{name}-out"), (f"memory://in/{name}", f"{name}-far")):
            done = vq(*ARGUMENTS, source, "-o", place)
            assert done.exit_code == code, (name, done.output)
        shards_alike(files_in(Path(f"{name}-out")), files_in(Path(f"{name}-far")))
    Path("urls.txt").write_text("memory://in/1.png\n1.png\n")
    assert vq(*ARGUMENTS, "urls.txt", "-o", "urls").exit_code == 0


@pytest.mark.fault("21 remote store that fails")
def test_a_store_that_fails_ends_the_run_and_loses_nothing(vq, pictures, memory, monkeypatch):
    """Its items are not taken for bad ones, and the run goes on where it was."""
    put(memory, "/in", pictures)
    real, left = type(memory).cat_file, [6]

    def fails(self, path, *arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            raise ConnectionError("no route\nto host")
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(type(memory), "cat_file", fails)
    done = vq(*ARGUMENTS, "memory://in", "-o", "out")
    assert done.exit_code == 1 and "cannot be read: no route to host" in done.stderr, done.output
    assert done.stderr.count("\n") == 2 and not Path("out/index.json").exists()
    assert vq(*ARGUMENTS, "memory://in", "-o", "out").exit_code == 3
    assert len(Path("out/failed.jsonl").read_text().splitlines()) == 1

    def full(self, path, value, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(memory), "pipe_file", full)
    done = vq(*ARGUMENTS, "memory://in", "-o", "memory://out")
    assert done.exit_code == 6 and "memory://out/plan.json cannot be written" in done.stderr


def test_stores_where_files_appear_while_they_are_written(tmp_path, monkeypatch):
    """There a file gets its name when it is whole."""
    from fsspec.implementations.local import LocalFileSystem

    class Plain(LocalFileSystem):
        protocol = "plain"

        @classmethod
        def _strip_protocol(cls, path):
            return str(path).removeprefix("plain://")

        def pipe_file(self, path, value, **options):
            Path(path).write_bytes(value[: len(value) // 2])
            if value == b"fails":
                raise OSError("broken pipe")
            Path(path).write_bytes(value)

    fsspec.register_implementation("plain", Plain, clobber=True)
    store = Store(f"plain://{tmp_path}/set")
    store.write("index/0.json", b"whole")
    with pytest.raises(OutputError, match="cannot be written: broken pipe"):
        store.write("index/0.json", b"fails")
    assert files_in(tmp_path) == {"set/index/0.json": b"whole"}
    assert store.read("index/0.json") == b"whole" and store.size("index/0.json") == 5 and store.size("x") is None


@pytest.mark.fault("21 remote store that cannot be used")
def test_what_is_missing_is_one_line(vq, pictures, memory, monkeypatch):
    from fsspec import core

    def said(source, place, code):
        done = vq(*ARGUMENTS, source, "-o", place)
        assert done.exit_code == code and done.stderr.count("\n") == 2, done.output
        return done.stderr

    assert "no file or folder memory://none" in said("memory://none", "out", 2)
    assert "Protocol not known: nope" in said("nope://b/x", "out", 1)
    memory.pipe_file("/in/x.safetensors", b"")
    assert "read on one machine only" in said("memory://in/x.safetensors", "out", 2)
    memory.pipe_file("/in/x.tar", b"no tar" * 200)
    assert vq(*ARGUMENTS, "memory://in/x.tar", "-o", "bad").exit_code == 3
    assert "is not a .tar" in Path("bad/failed.jsonl").read_text()

    def without(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(core, "url_to_fs", without)
    assert "pip install 's3fs'" in said("s3://b/x", "out", 1)
    assert "pip install 'gcsfs'" in said(pictures, "gs://b/x", 1)


def test_a_bound_on_what_is_read(memory):
    memory.pipe_file("/x", b"12345")
    assert Remote("memory://x").read(5) == b"12345" == Remote("memory://x", 5).read(9)
    for size in (None, 5):
        with pytest.raises(BadFile, match="more than 4 bytes"):
            Remote("memory://x", size).read(4)
    with pytest.raises(BadFile, match="cut off"):
        Remote("memory://x").range(3, 4)
    with pytest.raises(BadFile, match="memory://y cannot be read"):
        Remote("memory://y").read(4)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a server that answers as S3 does."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("bucket")
    yield system
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of s3fs and moto, to themselves
def test_s3(vq, pictures, bucket, monkeypatch, tmp_path):
    assert vq(*ARGUMENTS, pictures, "-o", "local").exit_code == 3
    put(bucket, "bucket/in", pictures)
    done = vq(*ARGUMENTS, "s3://bucket/in", "-o", "s3://bucket/out")
    assert done.exit_code == 3 and "7 items in 4 shards" in done.stderr, done.output
    shards_alike(files_in(Path("local")), got(bucket, "bucket/out"))
    assert vq("tokenize", "--check", "s3://bucket/out").exit_code == 0
    far = got(bucket, "bucket/out")
    for name in ("index/000002.json", "index.json"):
        bucket.rm_file(f"bucket/out/{name}")
    assert "not whole" in vq("tokenize", "--check", "s3://bucket/out").stderr
    done = vq(*ARGUMENTS, "s3://bucket/in", "-o", "s3://bucket/out", "--workers", 2)
    assert "1 shard made, 3 were there" in done.stderr and got(bucket, "bucket/out") == far, done.output
    done = vq(*ARGUMENTS, pictures, "-o", "s3://none/out")
    assert done.exit_code == 6 and done.stderr.count("\n") == 2 and "bucket does not exist" in done.stderr, done.output
    done = vq(*ARGUMENTS, "s3://none/in", "-o", "out")
    assert done.exit_code == 2 and "no file or folder s3://none/in" in done.stderr


@pytest.mark.fault("21 web server that does not answer")
def test_a_web_server_that_does_not_answer_is_no_missing_file(memory, monkeypatch):
    def asked(self, path, **options):
        raise FileNotFoundError(path) from cause

    monkeypatch.setattr(type(memory), "info", asked)
    cause = ConnectionRefusedError("refused")
    with pytest.raises(Unreachable, match="memory://x cannot be read"):
        Remote("memory://x").kind()
    cause = None
    assert Remote("memory://x").kind() == ""


@pytest.mark.fault("21 web server that does not answer")
@pytest.mark.parametrize(("status", "error"), [(403, BadFile), (429, Unreachable), (503, Unreachable)])
def test_a_web_server_that_asks_for_patience_is_no_missing_file(memory, monkeypatch, status, error):
    def refuses(self, path, *arguments, **options):
        raise type("Refusal", (Exception,), {"status": status})("no")

    monkeypatch.setattr(type(memory), "cat_file", refuses)
    with pytest.raises(error, match="cannot be read: no"):
        Remote("memory://x", 4).read(4)
