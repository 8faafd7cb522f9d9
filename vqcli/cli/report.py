"""vq report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import Force, Output

PAGE = "report.html"


def report(
    run: Annotated[Path, typer.Argument(help="Folder that vq train writes to.", show_default=False)],
    output: Output = None,
    force: Force = False,
) -> None:
    """Write one self-contained HTML page of a training run: curves, codes, reconstructions, recipe. Also while it runs.

    \b
    vq report models/mine
    vq report models/mine -o mine.html
    """
    from vqcli.files import refuse_existing
    from vqcli.training.report import page as reports

    if output is not None and output.is_dir():
        output = output / PAGE
    # the page in the folder of the run follows from the run: a newer one may take its place
    target, replaces = (output, force) if output else (run / PAGE, True)
    refuse_existing(target, replaces)
    reports.write_page(run, target, force=replaces)
    console.say(f"{target}: {console.size(target.stat().st_size)}")
