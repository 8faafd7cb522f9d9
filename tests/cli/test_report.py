from pathlib import Path

import pytest

from vqcli.training.log import RunLog

pytest.importorskip("jinja2")


@pytest.fixture
def run(home):
    Path("mine").mkdir()
    with RunLog(Path("mine"), None) as log:
        log.train(50, 2.0, 1e-3, 200.0, {"loss": 0.5})
    return "mine"


def test_the_page_lies_with_the_run_and_may_be_renewed(vq, run):
    for _ in range(2):
        result = vq("report", run)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == "" and result.stderr.startswith("mine/report.html: ") and "kB" in result.stderr
    assert "<title>mine" in Path("mine/report.html").read_text(encoding="utf-8")


def test_another_file_is_not_replaced_unasked(vq, run):
    assert vq("report", run, "-o", "page.html").exit_code == 0
    again = vq("report", run, "-o", "page.html")
    assert again.exit_code == 2 and "page.html exists" in again.stderr
    assert vq("report", run, "-o", "page.html", "--force").exit_code == 0


def test_no_run(vq, home):
    for folder in ("nowhere", "."):
        result = vq("report", folder)
        assert result.exit_code == 2 and "holds no run" in result.stderr
    assert not Path("report.html").exists()
