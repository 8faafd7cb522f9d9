"""What vq tokenize reads: labels come along, and what is damaged is a failed item, not the end."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from vqcli.errors import BadFile, UsageError
from vqcli.media import audio
from vqcli.tokens import plan, sources
from vqcli.tokens.check import read_shard
from vqcli.tokens.sources import Wanted
from vqcli.tokens.store import Store

IMAGES = Wanted("image")


def listed(path, wanted=IMAGES):
    """Every item with its medium, or the error of it."""
    roots = sources.opened([path])
    columns = sources.columns(roots, wanted)
    for item in sources.items(roots, wanted):
        try:
            yield item.key, sources.read(item, wanted, columns)
        except BadFile as error:
            yield item.key, str(error)


def rows(place):
    store = Store(str(place))
    index = plan.read_index(store)
    return [row for record in index.shards for row in read_shard(store, index.plan, record)]


def test_a_tar_in_webdataset_naming(tar, png):
    path = tar(
        "in.tar",
        {"a/1.png": png, "a/1.cls": b"3\n", "a/1.txt": "é".encode(), "b/2.json": b"{}", "b/2.cls": b"-1",
         "b/2.png": png, "c/.png": png, "c/no.cls": b"1", "d.cls": b"four", "d.png": png},
    )  # fmt: skip
    found = dict(listed(path))
    assert sources.columns(sources.opened([path]), IMAGES) == {"cls": "int", "txt": "str", "json": "str"}
    assert list(found) == ["a/1.png", "b/2.png", "d.png"]
    assert found["a/1.png"].labels == {"cls": 3, "txt": "é"} and found["a/1.png"].source.getvalue() == png
    assert found["b/2.png"].labels == {"cls": -1, "json": "{}"}
    assert found["d.png"] == "d.png: column cls is int, and this is 'four'"


@pytest.mark.fault("21 damaged shard")
def test_a_damaged_tar_does_not_end_the_run(vq, tar, png, tmp_path):
    Path("in").mkdir()
    for name in ("0", "1", "2"):
        tar(f"in/{name}.tar", {f"{n}.png": png for n in range(3)})
    data = Path("in/1.tar").read_bytes()
    Path("in/1.tar").write_bytes(data[: len(data) // 2])
    assert vq("tokenize", "in", "-o", "out", "--model", "scalar").exit_code == 3
    keys = [row.key for row in rows("out")]
    assert keys[:3] == ["0/0.png", "0/1.png", "0/2.png"] and keys[-1] == "2/2.png" and 6 <= len(keys) < 9
    (failed,) = map(json.loads, Path("out/failed.jsonl").read_text().splitlines())
    assert failed["key"] == "1.tar" and "cut off" in failed["error"]


def test_arrays_and_their_labels(vq, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "in.npz", images=pixels, labels=np.array([0, 1, 1, 0, 1]), classes=np.array(["cat", "dog"]))
    assert vq("tokenize", "in.npz", "-o", "out", "--model", "vector").exit_code == 0
    found = rows("out")
    assert [row.labels["label"] for row in found] == ["cat", "dog", "dog", "cat", "dog"]
    assert found[0].codes.shape == (6, 2, 2) and found[0].size == (8, 8, 3)


def test_files_that_are_coded_already(vq, pictures, scalar_model, vector_model):
    """Their codes come along as they are: shards of images and of their .vqz files are alike but for the keys."""
    (pictures / "dog" / "8.png").unlink()
    vq("encode", pictures, "-o", "codes", "--model", "scalar", "--quality", 1, "--coder", "packed")
    assert vq("tokenize", "codes", "-o", "out", "--model", "scalar").exit_code == 0
    assert vq("tokenize", pictures, "-o", "direct", "--model", "scalar", "--quality", 1).exit_code == 0
    found, direct = rows("out"), rows("direct")
    assert [row.key.replace(".vqz", ".png") for row in found] == [row.key for row in direct]
    for one, other in zip(found, direct, strict=True):
        assert np.array_equal(one.codes, other.codes) and (one.size, one.side) == (other.size, other.side)
    assert vq("tokenize", "codes", "-o", "other", "--model", "vector").exit_code == 3
    assert rows("other") == [] and "scalar" in Path("other/failed.jsonl").read_text()


def test_a_list_of_paths(vq, pictures):
    Path("list.txt").write_text("in/cat/1.png\tone\nin/none.png\n\nin/dog/2.png\ttwo\n")
    assert vq("tokenize", "list.txt", "-o", "out", "--model", "scalar").exit_code == 3
    assert [(row.key, row.labels["text"]) for row in rows("out")] == [("in/cat/1.png", "one"), ("in/dog/2.png", "two")]
    assert "none.png" in Path("out/failed.jsonl").read_text()


def test_several_sources_have_names_of_their_own(tar, png):
    paths = [tar("a.tar", {"1.png": png}), tar("b.tar", {"1.png": png})]
    assert [item.key for item in sources.items(sources.opened(paths), IMAGES)] == ["a.tar/1.png", "b.tar/1.png"]


def table(path, pa, **columns):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=2)


def test_parquet_as_hugging_face_writes_it(vq, png, tmp_path):
    pa = pytest.importorskip("pyarrow")
    images = [{"bytes": png, "path": "1.png"}, {"bytes": None, "path": "gone.png"}, {"bytes": png, "path": None}]
    table("in.parquet", pa, image=images, label=[1, 2, None], text=["a", "b", "c"], boxes=[[1], [2], [3]])
    assert vq("tokenize", "in.parquet", "-o", "out", "--model", "scalar", "--format", "parquet").exit_code == 3
    found = rows("out")
    assert [row.key for row in found] == ["in/00000000", "in/00000002"]
    assert [row.labels for row in found] == [{"label": 1, "text": "a"}, {"label": None, "text": "c"}]
    assert "gone.png" in Path("out/failed.jsonl").read_text()
    read = pa.parquet.read_table("out/shard-000000.parquet")
    assert read.schema.field("codes").type == pa.list_(pa.uint16()) and read.schema.field("label").type == pa.int64()


def test_arrow_streams_and_a_column_by_name(png, tmp_path):
    pa = pytest.importorskip("pyarrow")
    whole = pa.table({"thumb": [b"no"], "photo": [png], "n": [1.5]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, whole.schema) as writer:
        writer.write_table(whole)
    ((key, medium),) = listed(tmp_path / "a.arrow", Wanted("image", "photo"))
    assert key == "a/00000000" and medium.source.getvalue() == png and medium.labels == {"n": 1.5}
    with pytest.raises(UsageError, match="no column mask with bytes"):
        list(listed(tmp_path / "a.arrow", Wanted("image", "mask")))


@pytest.mark.fault("21 label column of another type")
def test_a_label_column_of_another_type(vq, png):
    pa = pytest.importorskip("pyarrow")
    Path("in").mkdir()
    table("in/0.parquet", pa, image=[png], label=[1])
    table("in/1.parquet", pa, image=[png], label=["one"])
    Path("in/2.parquet").write_bytes(b"PAR1 no")
    done = vq("tokenize", "in", "-o", "out", "--model", "scalar")
    assert done.exit_code == 3 and "in/1.parquet: column label is str, and int in the files before" in done.stderr
    assert done.stderr.count("\n") == 2 and not Path("out").exists()
    assert vq("tokenize", "in", "-o", "out", "--model", "scalar", "--columns", "").exit_code == 3
    assert len(rows("out")) == 2 and "2.parquet" in Path("out/failed.jsonl").read_text()
    assert "no column size" in vq("tokenize", "in", "-o", "new", "--model", "scalar", "--columns", "size").stderr


def test_recordings_to_parquet_and_back(vq, tmp_path):
    pa = pytest.importorskip("pyarrow")
    sound = io.BytesIO()
    noise = 0.05 * np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    audio.write(sound, [noise], 16_000, format="flac")
    audios = [{"bytes": sound.getvalue(), "path": "x.flac"}]
    table("in.parquet", pa, audio=audios, text=["words"])
    assert vq("tokenize", "in.parquet", "-o", "out", "--model", "speech", "--format", "parquet").exit_code == 0
    (read,) = pa.parquet.read_table("out/shard-000000.parquet").to_pylist()
    (row,) = rows("out")
    assert read["text"] == "words" and read["size"] == [5000, 16_000, 1] and read["key"] == "in/00000000"
    assert np.array_equal(np.array(read["codes"]).reshape(read["shape"]), row.codes)
