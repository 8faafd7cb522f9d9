"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the result goes; - is stdout.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that exist.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")]
Coder = Annotated[str, typer.Option("--coder", help="auto (the smallest), packed, histogram, adaptive or prior.")]

STREAM = Path("-")


def numbers(qualities: str | None) -> list[float | None]:
    """The option --qualities: numbers with commas between."""
    from vqcli.errors import UsageError

    try:
        return [float(part) for part in (qualities or "").split(",") if part]
    except ValueError:
        raise UsageError(f"--qualities {qualities}: not numbers with commas between") from None
