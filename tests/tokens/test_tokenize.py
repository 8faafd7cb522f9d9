"""vq tokenize: codes are those of vq encode, and a set is the same however often its making was interrupted."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import vqcli
from vqcli.codec import exchange
from vqcli.container import vqz
from vqcli.errors import VqError
from vqcli.media import audio
from vqcli.tokens import answers, formats, plan, run, work
from vqcli.tokens.check import read_shard
from vqcli.tokens.engines import local
from vqcli.tokens.items import Item
from vqcli.tokens.rows import codes_of
from vqcli.tokens.store import Store

FORMATS = ("npz", "safetensors", "webdataset", "parquet")


def rows(place):
    store = Store(str(place))
    index = plan.read_index(store)
    return [row for record in index.shards for row in read_shard(store, index.plan, record)]


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", FORMATS)
def test_codes_of_images_are_those_of_encode(vq, pictures, tmp_path, scalar_model, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    done = vq("tokenize", pictures, "-o", "out", "--model", "scalar", "--format", format, "--per-shard", 3)
    assert done.exit_code == 3 and "7 items in 3 shards; 1 item could not" in done.stderr, done.output
    found = rows(tmp_path / "out")
    assert [row.key for row in found] == [
        *("cat/1.png", "cat/3.png", "cat/5.png", "dog/0.png", "dog/2.png", "dog/4.png", "dog/6.png")
    ]
    assert [row.labels for row in found[:2]] == [{"label": "cat", "text": "a cät"}, {"label": "cat", "text": None}]
    assert found[2].size == (22, 13, 1) and found[0].codes.dtype == np.uint16
    for row in found:
        whole = vqcli.encode(pictures / row.key, scalar_model, coder="packed")
        assert np.array_equal(row.codes, whole.codes), row.key
        assert vqz.pack(*exchange.file_of(scalar_model, codes_of(row, scalar_model), "packed")) == whole.data
    (failed,) = (tmp_path / "out" / "failed.jsonl").read_text().splitlines()
    assert json.loads(failed)["key"] == "dog/8.png" and "damaged" in json.loads(failed)["error"]
    assert vq("tokenize", "--check", "out").exit_code == 0


def test_options_of_the_encoding(vq, pictures, tmp_path, vector_model, scalar_model):
    assert vq("tokenize", pictures, "-o", "q", "--model", "scalar", "--quality", 3, "--columns", "label").exit_code == 3
    assert vq("tokenize", pictures, "-o", "l", "--model", "vector", "--levels", 2, "--alone").exit_code == 3
    (quality, *_), (levels, *_) = rows(tmp_path / "q"), rows(tmp_path / "l")
    assert quality.labels == {"label": "cat"}
    source = pictures / quality.key
    assert np.array_equal(quality.codes, vqcli.encode(source, scalar_model, quality=3, coder="packed").codes)
    assert np.array_equal(levels.codes, vqcli.encode(source, vector_model, levels=2, coder="packed").codes)
    assert vq("tokenize", "--check", "l").exit_code == 0
    for wrong, words in ((("--levels", 4), "has 3"), (("--quality", 2), "one quality"), (("--mono",), "no mono")):
        done = vq("tokenize", pictures, "-o", "w", "--model", "vector", *wrong)
        assert done.exit_code == 2 and words in done.stderr and not Path("w").exists()


def test_codes_of_recordings_are_those_of_encode(vq, tmp_path):
    (tmp_path / "in").mkdir()
    for number, (channels, rate) in enumerate([(1, 16_000), (2, 22_050)]):
        noise = 0.05 * np.random.default_rng(number).standard_normal((channels, 6000 + 999 * number))
        audio.write(tmp_path / "in" / f"{number}.wav", noise.astype(np.float32), rate)
    assert vq("tokenize", "in", "-o", "out", "--model", "speech", "--channels", "--format", "npz").exit_code == 0
    first, second = rows(tmp_path / "out")
    model = vqcli.load("speech")
    assert first.size == (6000, 16_000, 1) and second.size == (6999, 22_050, 2)
    for row in (first, second):
        whole = vqcli.encode(tmp_path / "in" / row.key, model, mono=False, coder="packed")
        assert np.array_equal(row.codes, exchange.array_of(whole.audio))
        assert vqz.pack(*exchange.file_of(model, codes_of(row, model), "packed")) == whole.data
    assert vq("tokenize", "--check", "out").exit_code == 0


def test_workers_and_their_death_change_nothing(vq, pictures, monkeypatch):
    """Two processes, one of them killed while it works, make the same files as one."""
    settings = run.Settings(per_shard=1, device="cpu", workers=1)
    assert run.tokenize([pictures], "one", "scalar", settings).index
    pools, killed, heard = [], [], []
    begin = local._Pool.__init__

    def remember(self, *of):
        begin(self, *of)
        pools.append(self)

    def progress(far):
        heard.append(far)
        if far.items and not killed:
            pipe = next(iter(pools[0]._working))
            os.kill(pools[0]._processes[pipe].pid, signal.SIGKILL)
            killed.append(pipe)

    monkeypatch.setattr(local._Pool, "__init__", remember)
    many = run.Settings(per_shard=1, device="cpu", workers=2)
    assert run.tokenize([pictures], "two", "scalar", many, progress).made == 8
    size_bytes = sum(path.stat().st_size for path in pictures.rglob("*.png"))
    assert [far.items for far in heard] == list(range(9)) and {far.of_items for far in heard} == {8}
    assert heard[0].share == 0 and heard[-1] == run.Far(8, 8, size_bytes, size_bytes) and heard[-1].share == 1
    assert killed and files_in(Path("one")) == files_in(Path("two"))


def test_errors_of_workers_are_errors_here():
    """In one line, as if this process had met them; a shard that workers die of ends the run."""
    for kind, code in (("OutputError", 6), ("BadFile", 3), ("ForeignOption", 2), ("DamagedChunks", 3), ("VqError", 1)):
        error = answers.error_of(kind, "no room", "make some")
        assert error.exit_code == code and str(error) == "no room" and error.hint == "make some"
    assert isinstance(answers.error_of("", "Traceback ...", ""), RuntimeError)

    class Dead:
        exitcode = -9

        def join(self):
            pass

        def close(self):
            pass

    pool, shard = local._Pool(None, print), plan.Shard(7, ())
    for _ in range(local.TRIES - 1):
        pool._processes["pipe"] = Dead()
        assert pool._dead(Pipe("pipe"), shard) is shard
    pool._processes["pipe"] = Dead()
    with pytest.raises(VqError, match="shard 7: 3 workers died of it, the last with status -9"):
        pool._dead(Pipe("pipe"), shard)


class Pipe(str):
    def close(self):
        pass


def test_how_far_within_a_shard(vq, pictures, monkeypatch):
    """The bar moves as items are done; a worker says so through its pipe."""
    monkeypatch.setattr(work, "OFTEN_S", 0)
    heard = []
    assert run.tokenize([pictures], "one", "scalar", run.Settings(device="cpu", workers=1), heard.append).index
    items = [far.items for far in heard]
    assert items == sorted(items) and {0, 2, 3, 4, 8} <= set(items) and {far.of_items for far in heard} == {8}
    assert 0 < heard[1].share < heard[3].share < heard[-1].share == 1

    course = run._Course(run.Far(0, 20), heard.append)
    shards = [plan.Shard(number, (Item("", "folders", ""),) * count) for number, count in ((0, 9), (1, 11))]
    list(course.given(SimpleNamespace(taken=lambda: shards)))
    for number, items in ((0, 4), (1, 5), (0, None), (1, 2), (1, None)):
        course.done(number) if items is None else course.moved(number, items)
    assert [far.items for far in heard[-6:]] == [0, 4, 9, 14, 11, 20]

    said = []
    pool, shard = local._Pool(None, lambda *of: said.append(of)), plan.Shard(7, ())
    ours, theirs = multiprocessing.Pipe()
    pool._give = lambda shard: pool._working.update({ours: shard})
    record = plan.Record(number=7, name="", items=8, codes=0, bytes=0, sha256="", source="")
    for answer in (3, 5, record):
        theirs.send(answer)
    assert list(pool.run(iter([shard]), 2)) == [record] and said == [(7, 3), (7, 5)]


def test_shards_follow_the_number_of_items(vq, pictures, monkeypatch):
    """Several for each worker of a small set; a set that was begun keeps its size, and no source is listed in advance
    beyond what decides."""
    for count, size in ((1, 50), (1600, 50), (1601, 100), (3201, 200), (6400, 200), (6401, 500), (20_000, 500)):
        listed = iter(range(count))
        found, items = plan.sized(Store("none"), listed, None)
        assert found == size and count - len(list(listed)) == min(count, 6401)
        assert list(items) == list(range(min(count, 6401)))
    assert plan.sized(Store("none"), iter(()), 7)[0] == 7

    monkeypatch.setattr(plan, "SIZES", (1, 2, 9))
    monkeypatch.setattr(plan, "SHARDS", 4)
    arguments = ("tokenize", pictures, "-o", "out", "--model", "scalar")
    assert "4 shards made" in vq(*arguments).stderr
    whole = files_in(Path("out"))
    Path("out/index/000001.json").unlink()
    monkeypatch.setattr(plan, "SIZES", (5, 9))
    assert "1 shard made, 3 were there" in vq(*arguments).stderr and files_in(Path("out")) == whole
    done = vq(*arguments, "--per-shard", 5)
    assert done.exit_code == 2 and "tokens with per_shard 2, and this run has 5" in done.stderr


@pytest.mark.slow
def test_kills_at_random_moments():
    script = Path(__file__).parent / "kills.py"
    done = subprocess.run([sys.executable, script, "--kills", "3", "--images", "60"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("as those of an undisturbed run") == 2, done.stderr


def test_an_interrupted_run_goes_on(vq, pictures, tmp_path, monkeypatch):
    """Whatever file is the last one that was written."""
    settings = run.Settings(per_shard=2, device="cpu", workers=1)
    assert run.tokenize([pictures], "whole", "scalar", settings).index
    write, left = Store.write, [0]

    def interrupted(self, name, data):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, name, data)

    monkeypatch.setattr(Store, "write", interrupted)
    begun = 0
    for allowed in (0, 1, 2, 1, 3, 2, 9):
        left[0] = allowed
        try:
            done = run.tokenize([pictures], "parts", "scalar", settings)
        except KeyboardInterrupt:
            begun += 1
            if Path("parts/plan.json").exists():
                assert "not whole" in vq("tokenize", "--check", "parts").stderr
    assert begun == 6 and done.there == 3 and files_in(Path("whole")) == files_in(Path("parts"))


def test_parts_of_several_machines_are_the_whole(vq, pictures):
    def part(name, *more):
        return vq("tokenize", pictures, "-o", name, "--model", "scalar", "--per-shard", 2, *more)

    assert part("whole").exit_code == 3
    assert "still to do" in part("parts", "--shard", "2/2").stderr
    assert "the set is whole" in part("parts", "--shard", "1/2").stderr
    assert files_in(Path("whole")) == files_in(Path("parts"))
    assert "4 were there; 0 items" in part("parts").stderr


@pytest.mark.fault("21 destination of another set")
def test_a_place_that_holds_another_set(vq, pictures, picture):
    arguments = ("tokenize", pictures, "-o", "out", "--per-shard", 2)
    assert vq(*arguments, "--model", "scalar").exit_code == 3
    before = files_in(Path("out"))
    cases = {
        "of model scalar": ("--model", "vector"),
        "with format npz": ("--model", "scalar", "--format", "safetensors"),
        "with options {}": ("--model", "scalar", "--quality", 1),
    }
    for words, more in cases.items():
        done = vq(*arguments, *more)
        assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 2, done.stderr
    vqcli.media.image.write(pictures / "cat" / "0.png", picture(8, 8))
    done = vq(*arguments, "--model", "scalar")
    assert done.exit_code == 2 and "the source has changed" in done.stderr
    assert files_in(Path("out")) == before


@pytest.mark.fault("21 damaged shard")
@pytest.mark.parametrize("format", ["npz", "safetensors", "webdataset"])
def test_a_damaged_shard_is_found_and_made_again(vq, pictures, format):
    arguments = ("tokenize", pictures, "-o", "out", "--model", "scalar", "--format", format)
    vq(*arguments)
    whole = files_in(Path("out"))
    path = Path(f"out/shard-000000.{formats.suffix(format)}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = vq("tokenize", "--check", "out")
    assert done.exit_code == 3 and "is damaged" in done.stderr
    assert vq("tokenize", "--stats", "out").exit_code == 3
    path.unlink()
    assert "cannot be read" in vq("tokenize", "--check", "out").stderr
    vq(*arguments)
    assert files_in(Path("out")) == whole


@pytest.mark.fault("21 hostile index")
def test_an_index_that_lies(vq, pictures):
    vq("tokenize", pictures, "-o", "out", "--model", "scalar")
    path = Path("out/index.json")
    whole = json.loads(path.read_bytes())
    Path("secret").write_bytes(Path("out/shard-000000.npz").read_bytes())

    def checked(**changes):
        index = json.loads(json.dumps(whole))
        for name, value in changes.items():
            place = index["plan"] if name in index["plan"] else index if name in index else index["shards"][0]
            place[name] = value
        path.write_text(json.dumps(index))
        done = vq("tokenize", "--check", "out")
        assert done.exit_code == 3 and "Traceback" not in done.output
        assert vq("tokenize", "--stats", "out").exit_code in ((3,) if "items" not in changes else (0, 3))
        return done.stderr

    assert "is no name of shard 0" in checked(name="../secret")
    assert "not within the codebooks" in checked(codebook_sizes=[9, 9, 2])
    assert "is damaged" in checked(codebook_sizes=[9, 9, 10**12])
    assert "is damaged" in checked(codebook_sizes=[])
    assert "is damaged" in checked(digest="../x")
    assert "other items" in checked(items=5)
    path.write_bytes(b"[" * 100_000)
    assert vq("tokenize", "--check", "out").exit_code == 3


@pytest.mark.fault("21 full disk")
def test_a_full_disk(vq, pictures, monkeypatch):
    real, count = os.fsync, [0]

    def full(descriptor):
        count[0] += 1
        if count[0] == 5:  # of the file; what follows, of its folder, may fail
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    arguments = ("tokenize", pictures, "-o", "out", "--model", "scalar", "--per-shard", 2)
    done = vq(*arguments)
    assert done.exit_code == 6 and "No space left" in done.stderr and done.stderr.count("\n") == 2, done.stderr
    assert not list(Path("out").rglob("*.tmp"))
    monkeypatch.setattr(os, "fsync", real)
    assert "4 shards" in vq(*arguments).stderr and vq("tokenize", "--check", "out").exit_code == 0


def test_statistics(vq, tmp_path, tar, png, monkeypatch):
    tar("in.tar", {f"{n}.png": png for n in range(3)})
    vq("tokenize", "in.tar", "-o", "out", "--model", "scalar")
    done = vq("tokenize", "--stats", "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (row, *_) = rows(tmp_path / "out")
    for group, book in enumerate(found["codebooks"]):
        counts = np.bincount(row.codes[group].ravel())
        share = counts[counts > 0] / counts.sum()
        assert book["K"] == (9, 9, 15)[group] and book["used"] == len(share)
        assert book["bits"] == pytest.approx(-(share * np.log2(share)).sum())
        assert book["perplexity"] == pytest.approx(2 ** book["bits"])
    assert found["lengths"] == [[16, 31, 3]] and found["items"] == 3 and found["codes"] == 3 * row.codes.size
    assert found["coders"]["packed"][0] > 0 and found["sampled"] == 3
    assert "perplexity" in vq("tokenize", "--stats", "out").stdout
    if pytest.importorskip("matplotlib"):
        assert vq("tokenize", "--stats", "out", "--plot", "use.png").exit_code == 0
        assert Path("use.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_missing(vq):
    for arguments, words in {
        (): "SOURCE is missing",
        ("in",): "-o DEST is missing",
        ("in", "-o", "out"): "--model NAME is missing",
        ("in", "-o", "out", "--model", "scalar"): "no file or folder in",
        ("in", "-o", "out", "--model", "scalar", "--format", "zip"): "no format zip",
        ("in", "-o", "out", "--model", "scalar", "--engine", "slurm"): "no engine slurm",
        ("--check", "out"): "holds no tokens",
        ("--check", "out", "--stats", "out"): "one at a time",
    }.items():
        done = vq("tokenize", *arguments)
        assert done.exit_code in (2, 3) and words in done.stderr, done.output


def test_pages_are_kept_where_glibc_is():
    """Memory that is free again is not cleared anew by the system: what takes its place meets no page faults."""
    script = """
import resource, numpy
from vqcli.tokens.allocation import keep_pages
kept = keep_pages()
def made():
    some = [numpy.ones(2**20, numpy.float32) for _ in range(5)]
    del some
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = made()
print(kept, max(made() for _ in range(9)) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    possible, faults = done.stdout.split()
    assert possible == "False" or int(faults) < 1000  # without, some 20,000 of 46,080 pages
