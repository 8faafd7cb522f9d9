"""Runs the tests marked `fault("kind")` and prints a table: kind, cases, failures. Exits 1 if one fails.

python tests/faults.py [further arguments of pytest]
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table


class CountByKind:
    """A plugin of pytest: which cases ran and which failed, by the kind that their marker names."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        marker = item.get_closest_marker("fault")
        if marker is not None:
            kind = marker.args[0]
            self.cases[kind] += report.when == "call"
            self.failures[kind] += report.failed
            self.skipped[kind] += report.skipped
        return report

    def table(self) -> Table:
        table = Table("kind", "cases", "failures", "skipped")
        for kind in sorted(self.cases):
            table.add_row(kind, *(str(counts[kind]) for counts in (self.cases, self.failures, self.skipped)))
        counts = (self.cases, self.failures, self.skipped)
        table.add_row("all", *(str(sum(each.values())) for each in counts), style="bold")
        return table


def main(arguments: list[str]) -> int:
    counted = CountByKind()
    code = pytest.main([str(Path(__file__).parent), "-m", "fault", *arguments], plugins=[counted])
    Console().print(counted.table())
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
