"""The command `vq`. One file for each command; torch and the like are imported inside the functions."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vqcli import progress
from vqcli.cli import console, first_steps, volume
from vqcli.cli.compare import compare
from vqcli.cli.convert import convert_speaker
from vqcli.cli.decode import decode
from vqcli.cli.demo import demo
from vqcli.cli.doctor import doctor
from vqcli.cli.encode import encode
from vqcli.cli.eval.main import evaluations
from vqcli.cli.exchange import export, import_codes
from vqcli.cli.explore import explore
from vqcli.cli.info import info
from vqcli.cli.manual import man
from vqcli.cli.models import models
from vqcli.cli.pack import pack
from vqcli.cli.recipes import recipes
from vqcli.cli.record import record
from vqcli.cli.report import report
from vqcli.cli.reproduce import reproduce
from vqcli.cli.sample import sample
from vqcli.cli.tokenize import tokenize
from vqcli.cli.train import train
from vqcli.errors import UsageError, explained

# Old spellings of options, by command: they go on for one release, with a notice, and no help shows them.
RENAMED: dict[str, dict[str, tuple[str, ...]]] = {
    "encode": {"--rate": ("--fps",)},
    "eval": {
        "--beside": ("--baselines",),
        "--judges": ("--evaluators",),
        "--no-judges": ("--no-evaluators",),
    },
    "sample": {"--size": ("--height", "--width")},  # 64x96
}


class Commands(TyperGroup):
    """Turns errors into one line, a hint and an exit status, and old spellings of options into the new ones."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        volume.add_options(self)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if not extra.get("resilient_parsing"):  # which completion and pages of manual ask with
            console.set_volume(console.Volume.NORMAL)  # options may say otherwise
        return super().make_context(info_name, args, parent, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if not rest and name in first_steps.USUAL and not ctx.resilient_parsing:  # as completion does
            first_steps.ask(name)
        return name, command, renewed(RENAMED.get(name or "", {}), rest)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("The first minute"):
            formatter.write_dl(first_steps.FIRST_MINUTE)
        super().format_options(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        progress.watch(console.step)
        try:
            with console.step("vq", around=True):
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            console.warn("vq: interrupted")
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            console.discard(sys.stdout)  # the reader of our output is gone: nothing is left to say
            sys.exit(1)
        except Exception as error:
            told = explained(error)
            # an error of typer, which shows it; that of a group without a command is its help
            if hasattr(error, "format_message") and type(error).__name__ != "NoArgsIsHelpError":
                error.message = console.one_line(error.message)  # type: ignore[attr-defined]
            if told is None or os.environ.get("VQ_TRACEBACK"):
                raise
            console.complain(told)
            sys.exit(told.exit_code)


def renewed(renamed: dict[str, tuple[str, ...]], args: list[str]) -> list[str]:
    """Arguments with new spellings for old ones, up to `--`, and a notice for each.

    An option that became several had their values with x between.
    """
    new: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return [*new, arg, *rest]
        option, equals, value = arg.partition("=")
        if option not in renamed:
            new.append(arg)
            continue
        options = renamed[option]
        console.say(f"{option} is now {' and '.join(options)}; the old spelling goes with the next release")
        value = value if equals else next(rest, "")
        values = value.split("x") if len(options) > 1 else [value]
        if len(values) != len(options):
            raise UsageError(f"{arg} {value} cannot be read", f"use {' and '.join(options)}")
        for each in zip(options, values, strict=True):
            new += each
    return new


app = typer.Typer(
    name="vq",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Discrete neural compression and generation: photographs, speech and video to small files of codes, and back.",
    epilog="VQ_MODELS adds folders of models, VQ_TRACEBACK=1 shows where an error arose.",
)


def print_version(wanted: bool) -> None:
    if wanted:
        from vqcli import __version__

        print(f"vq {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(encode)
app.command()(decode)
app.command()(info)
app.command()(export)
app.command("import")(import_codes)
app.add_typer(models, name="models")
app.add_typer(evaluations, name="eval")
app.command()(sample)
app.command("convert-speaker")(convert_speaker)
app.command()(train)
app.command()(recipes)
app.command()(pack)
app.command()(record)
app.command()(report)
app.command()(reproduce)
app.command()(demo)
app.command()(doctor)
app.command()(tokenize)
app.command()(compare)
app.command(hidden=True)(man)
app.command()(explore)


def stop(number: int, frame: Any) -> None:
    """A signal that ends the process, as Ctrl-C does: temporary files go, and training saves its state."""
    for each in STOPS:  # terminals and schedulers send several
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def prepare_process() -> None:
    """Make signals clean up, and let what is written to stdin, stdout and stderr go nowhere else."""
    for each in STOPS:
        if signal.getsignal(each) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(each, stop)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would be taken for it by libraries that print
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # whatever the terminal knows


def main() -> None:
    # On busy cores waiting threads that spin can slow torch tenfold; it reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # numpy's products are small and coders work on chunks side by side: threads of its own only get in the way
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare_process()
    app()
