from pathlib import Path

import pytest

from vqcli import batch
from vqcli.errors import BadFile, UsageError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.jpg", "in/b.png", "in/deep/a.PNG", "in/notes.txt", "c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def targets(*arguments):
    return {
        job.source.as_posix(): job.target.as_posix() for job in batch.plan(*arguments, (".png", ".jpg"), ".vqz").jobs
    }


def test_files_go_beside_themselves_or_where_they_are_told(tree):
    assert targets([Path("c.png")], None) == {"c.png": "c.vqz"}
    assert targets([Path("c.png")], Path("x.vqz")) == {"c.png": "x.vqz"}
    assert targets([Path("c.png")], Path("in")) == {"c.png": "in/c.vqz"}
    assert targets([Path("c.png"), Path("in/a.png")], Path("out")) == {"c.png": "out/c.vqz", "in/a.png": "out/a.vqz"}


def test_folders_keep_their_tree_and_no_two_share_a_name(tree):
    assert targets([Path("in")], Path("out")) == {
        "in/a.png": "out/a.vqz",
        "in/b.jpg": "out/b.jpg.vqz",
        "in/b.png": "out/b.png.vqz",
        "in/deep/a.PNG": "out/deep/a.vqz",
    }


def test_plans_that_cannot_be(tree):
    with pytest.raises(UsageError, match="where should the results go"):
        batch.plan([Path("in")], None, (".png",), ".vqz")
    with pytest.raises(UsageError, match=r"no \.webp files"):
        batch.plan([Path("in")], Path("out"), (".webp",), ".vqz")
    with pytest.raises(UsageError, match="would both become"):
        batch.plan([Path("in/a.png"), Path("in/deep/a.PNG")], Path("out"), (".png",), ".vqz")


def test_a_bad_file_stops_only_itself(tree):
    def work(job):
        if job.source.suffix == ".jpg":
            raise BadFile("no picture")
        job.target.touch()
        return job.source.name

    jobs = batch.plan([Path("in")], Path("out"), (".png", ".jpg"), ".vqz").jobs
    first = list(batch.run(jobs, work, force=False))
    assert [(outcome.result, outcome.skipped) for outcome in first if not outcome.error] == [
        ("a.png", False), ("b.png", False), ("a.PNG", False)
    ]  # fmt: skip
    assert [str(outcome.error) for outcome in first if outcome.error] == ["no picture"]
    again = list(batch.run(jobs, work, force=False))
    assert sum(outcome.skipped for outcome in again) == 3
    with pytest.raises(BadFile):
        list(batch.run(batch.plan([Path("in/b.jpg")], None, (), ".vqz").jobs, work, force=False))


def test_shards_part_the_names(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.png").touch()
    jobs = batch.plan([tmp_path], tmp_path / "out", (".png",), ".vqz").jobs
    parts = [batch.shard(jobs, f"{index}/4") for index in range(1, 5)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    assert all(part for part in parts)
    # names alone decide: the part stays when files come and go, and wherever the folder lies
    (tmp_path / "7.png").unlink()
    fewer = batch.shard(batch.plan([tmp_path], tmp_path / "out", (".png",), ".vqz").jobs, "2/4")
    assert [job.name for job in fewer] == [job.name for job in parts[1] if job.name != "7.png"]


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1", "WORLD_SIZE": "4"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"},
    ],
)
def test_the_shard_that_a_launcher_tells(tmp_path, environment):
    for number in range(20):
        (tmp_path / f"{number}.png").touch()
    jobs = batch.plan([tmp_path], tmp_path / "out", (".png",), ".vqz").jobs
    assert batch.shard(jobs, "auto", environment) == batch.shard(jobs, "2/4")


@pytest.mark.parametrize("part", ["0/4", "5/4", "1/0", "half", "-1/2", "auto"])
def test_what_is_no_shard(tmp_path, part):
    with pytest.raises(UsageError, match="--shard"):
        batch.shard([], part, {})
