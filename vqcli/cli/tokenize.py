"""vq tokenize"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import AsJson, Device, Model, Plot, command, words

if TYPE_CHECKING:
    from vqcli.tokens.check import Checked
    from vqcli.tokens.run import Done, Far

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders, .tar, .parquet or .arrow files, packs, .npz, recordings, .txt files of paths; or URLs of such.",
        show_default=False,
        metavar="SOURCE...",
    ),
]
Place = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Where the shards go: a folder or a URL.", show_default=False, metavar="DEST"),
]


@dataclass(frozen=True)
class CodeOptions:
    """Of the codes."""

    quality: Annotated[float | None, typer.Option(help="Of images: 1 to the model's number of qualities.")] = None
    tune: Annotated[str | None, typer.Option(help="Of images: ssim or psnr.", show_default=False)] = None
    levels: Annotated[
        int | None, typer.Option(help="Keep the first residual levels only.", min=1, show_default=False)
    ] = None
    mono: Annotated[
        bool | None, typer.Option("--mono/--channels", help="Of audio: mix all channels, or code each on its own.")
    ] = None


@dataclass(frozen=True)
class ShardOptions:
    """Of shards and what they hold."""

    format: Annotated[
        str,
        typer.Option(
            help="npz, parquet, safetensors or webdataset.",
            autocompletion=complete.among("npz", "parquet", "safetensors", "webdataset"),
        ),
    ] = "npz"
    per_shard: Annotated[
        int | None, typer.Option(help="Items of a shard.", min=1, show_default="50 to 500, by how many there are")
    ] = None
    column: Annotated[
        str | None, typer.Option(help="Of tables: the column with the media.", show_default="the likely one")
    ] = None
    columns: Annotated[
        str | None, typer.Option(help="Labels and texts to carry along, with commas.", show_default="all")
    ] = None


@dataclass(frozen=True)
class WorkOptions:
    """Of the work."""

    engine: Annotated[
        str,
        typer.Option(
            help="local: processes of this machine; ray: a Ray cluster.", autocompletion=complete.among("local", "ray")
        ),
    ] = "local"
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.", show_default=False)
    ] = None
    workers: Annotated[int | None, typer.Option(help="How many.", min=1, show_default="one a core")] = None
    threads: Annotated[int, typer.Option(help="That read media, for each worker.", min=1)] = 2
    alone: Annotated[
        bool, typer.Option("--alone", help="Each image on its own, for codes bit for bit as of vq encode.")
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            help="The shards of one machine of many: 2/8, or auto (torchrun, Slurm, MPI).", show_default=False
        ),
    ] = None
    device: Device = "auto"


@command
def tokenize(
    inputs: Inputs = None,
    output: Place = None,
    model: Model = None,
    codes: CodeOptions = CodeOptions(),
    shards: ShardOptions = ShardOptions(),
    work: WorkOptions = WorkOptions(),
    check: Annotated[
        str | None, typer.Option(help="Verify the shards, counts and digests of a set.", metavar="DEST")
    ] = None,
    stats: Annotated[
        str | None, typer.Option(help="Use of codebooks, bits by coder, lengths of a set.", metavar="DEST")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize a data set: shards of codes for training, with labels and texts carried along.

    An interrupted run goes on where it was. What cannot be tokenized is listed in failed.jsonl.

    \b
    vq tokenize images/ -o tokens/ --model photo-2
    vq tokenize images/ -o tokens/ --model tokens --format webdataset --per-shard 1000
    vq tokenize speech/ -o tokens/ --model speech --format parquet
    vq tokenize --check tokens/
    vq tokenize --stats tokens/
    """
    from vqcli.errors import UsageError

    if check is not None or stats is not None:
        if inputs or output or (check is not None and stats is not None):
            raise UsageError("--check and --stats look at a set, one at a time", "name nothing else")
        if check is not None:
            _check(check, as_json)
        else:
            _stats(str(stats), model, plot, work.device, as_json)
        return
    if not inputs or output is None or model is None:
        missing = "SOURCE" if not inputs else "-o DEST" if output is None else "--model NAME"
        raise UsageError(f"{missing} is missing", "vq tokenize SOURCE -o DEST --model NAME")
    _tokenize(inputs, output, model, codes, shards, work, as_json)


def _tokenize(
    inputs: list[str],
    output: str,
    model: str,
    codes: CodeOptions,
    shards: ShardOptions,
    work: WorkOptions,
    as_json: bool,
) -> None:
    from vqcli.tokens import run

    settings = run.Settings(
        format=shards.format, per_shard=shards.per_shard, alone=work.alone, medium=shards.column,
        columns=None if shards.columns is None else tuple(words(shards.columns)), options=asdict(codes),
        engine=work.engine, workers=work.workers, address=work.address, part=work.shard, device=work.device,
        threads=work.threads,
    )  # fmt: skip
    begun = time.perf_counter()
    with console.progress(f"tokenizing into {output}") as progress:
        done = run.tokenize(inputs, output, model, settings, lambda far: progress(far.share, _how_far(far)))
    took_s = time.perf_counter() - begun
    console.say(_line(output, done, took_s))
    if as_json:
        index = done.index
        facts: dict[str, Any] = {"made": done.made, "there": done.there, "items": done.items, "failed": done.failed}
        whole = None if index is None else {"items": index.items, "codes": index.codes, "failed": index.failed}
        console.emit_json(facts | {"took_s": took_s, "whole": whole})
    if done.index.failed if done.index else done.failed:
        raise typer.Exit(3)


def _how_far(far: Far) -> str:
    size = f", {console.size(far.size_bytes)} of {console.size(far.of_bytes)}" if far.of_bytes else ""
    return f"{far.items} of {console.plural(far.of_items, 'item')}{size}"


def _line(output: str, done: Done, took_s: float) -> str:
    there = f", {done.there} were there" if done.there else ""
    rate = f" in {took_s:.1f} s, {done.items / took_s:.1f} a second" if done.items else ""
    line = f"{output}: {console.plural(done.made, 'shard')} made{there}; {console.plural(done.items, 'item')}{rate}"
    if done.index is None:
        return f"{line}; other parts are still to do"
    index = done.index
    whole = f"the set is whole: {index.items} items in {console.plural(len(index.shards), 'shard')}"
    bad = f"; {console.plural(index.failed, 'item')} could not be tokenized: failed.jsonl" if index.failed else ""
    return f"{line}; {whole}{bad}"


def _check(place: str, as_json: bool) -> None:
    from vqcli.tokens import check
    from vqcli.tokens.store import Store

    with console.progress(f"checking {place}") as progress:
        found: Checked = check.check(Store(place), progress)
    for problem in found.problems:
        console.warn(f"vq: {console.one_line(problem)}")
    state = "sound" if not found.problems else console.plural(len(found.problems), "problem")
    console.say(
        f"{place}: {found.items} items in {console.plural(found.shards, 'shard')}, {found.failed} failed: {state}"
    )
    if as_json:
        console.emit_json(asdict(found))
    if found.problems:
        raise typer.Exit(3)


def _stats(place: str, model: str | None, plot: Path | None, device: str, as_json: bool) -> None:
    from vqcli.tokens import statistics
    from vqcli.tokens.store import Store

    with console.progress(f"reading {place}") as progress:
        found = statistics.measure(Store(place), model, device, progress)
    if plot is not None:
        statistics.draw(found, plot)
    if as_json:
        console.emit_json(asdict(found))
        return
    rows = [
        [str(number), f"{each.K}", f"{each.used}", f"{each.perplexity:.1f}", f"{each.bits:.2f}"]
        for number, each in enumerate(found.codebooks)
    ]
    console.emit_table(["group", "K", "used", "perplexity", "bits a code"], rows, f"{place}: {found.items} items")
    coded = [[name, f"{bits:.3f}", f"{size:.0f}"] for name, (bits, size) in found.coders.items()]
    if coded:
        title = f"by coder, of {console.plural(found.sampled, 'item')}"
        console.emit_table(["coder", "bits a code", "bytes a file"], coded, title)
    lengths = [[f"{low} to {high}", str(count)] for low, high, count in found.lengths]
    console.emit_table(["positions", "items"], lengths)
