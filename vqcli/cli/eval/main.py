"""vq eval: what can be measured, a file of this folder each; without a name it is rate and distortion."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from typer.core import TyperGroup

from vqcli.cli import console
from vqcli.cli.eval.codes import codes
from vqcli.cli.eval.conversion import conversion
from vqcli.cli.eval.frames import frames
from vqcli.cli.eval.likelihood import likelihood
from vqcli.cli.eval.lossless import lossless
from vqcli.cli.eval.phonemes import phonemes
from vqcli.cli.eval.rd import rd
from vqcli.cli.eval.samples import samples
from vqcli.cli.eval.video import video


class Measurements(TyperGroup):
    """A group in which what begins with the name of no command is `rd`.

    A folder that is called like a command is measured by `vq eval rd NAME`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            self._refuse_misspelt(args[0])
            args = ["rd", *args]
        return super().parse_args(ctx, args)

    def _refuse_misspelt(self, word: str) -> None:
        """Raise UsageError for what is nowhere and nearly the name of a measurement: it would be taken for a file."""
        from vqcli.errors import UsageError

        close = difflib.get_close_matches(word, self.commands, n=2, cutoff=0.75)
        if close and not os.path.lexists(word):
            raise UsageError(f"no measurement, file or folder {word}", f"did you mean {' or '.join(close)}?")


def _exits_if_left_out(measurement: Callable[..., None]) -> Callable[..., None]:
    """The command, which leaves with status 3 once it has measured what it could, if files could not be read."""

    @wraps(measurement)
    def call(**given: Any) -> None:
        console.left_out.clear()
        measurement(**given)
        if console.left_out:
            console.warn(f"vq: {console.plural(len(console.left_out), 'file')} left out")
            raise typer.Exit(3)

    return call


evaluations = typer.Typer(
    cls=Measurements,
    no_args_is_help=True,
    help="Measure models: rate and distortion (also: vq eval FILES), likelihood, samples and more.",
)
for measurement in (rd, samples, codes, lossless, likelihood, conversion, phonemes, frames, video):
    evaluations.command()(_exits_if_left_out(measurement))
