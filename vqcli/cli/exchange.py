"""vq export and vq import: codes for other tools, and back"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.files import process, refuse_foreign, suffix_named
from vqcli.cli.options import RUNNING, Allowed, Coder, Model, Output, Running, command

if TYPE_CHECKING:
    from vqcli.batch import Job
    from vqcli.zoo.loading import LoadedModel

Exported = Annotated[list[Path], typer.Argument(help=".vqz files or folders of them.", show_default=False)]
Imported = Annotated[
    list[Path], typer.Argument(help=".npy, .npz, .safetensors, .json, .ecdc or .dac, or folders.", show_default=False)
]
Format = Annotated[
    str | None,
    typer.Option(
        help="npy, npz, safetensors, json, ecdc or dac.",
        show_default="npy",
        autocompletion=complete.among("npy", "npz", "safetensors", "json", "ecdc", "dac"),
    ),
]
Flatten = Annotated[
    bool, typer.Option("--flatten", help="One row of integers, the groups of a position in turn, each a range apart.")
]


@command
def export(
    inputs: Exported,
    output: Output = None,
    format: Format = None,
    flatten: Flatten = False,
    model: Model = None,
    allowed: Allowed = Allowed(),
    running: Running = RUNNING,
) -> None:
    """Write the codes of .vqz files as arrays that other tools read.

    An array is uint16 [groups, positions]: of audio positions in time, of images rows and columns, of clips frames,
    rows and columns. All formats but .npy also hold what `vq import` needs to make the same .vqz file again.

    \b
    vq export talk.vqz -o talk.npy
    vq export codes/ -o arrays/ --format safetensors
    vq export talk.vqz -o talk.npz --flatten
    """
    from vqcli import batch
    from vqcli.container import vqz
    from vqcli.container.bounds import Limits

    models: dict[bytes, LoadedModel] = {}
    limits = Limits(allowed.max_pixels, allowed.max_seconds)

    def work(job: Job) -> dict[str, Any]:
        file = vqz.read(job.source, limits=limits)  # before torch is imported, which takes its time
        from vqcli import api
        from vqcli.codec import exchange

        digest = file.header.digest
        if digest not in models:
            models[digest] = api.load_for(file.header, model, running.device)
        codes = exchange.codes_of(models[digest], file)
        array = exchange.write(job.target, codes, models[digest], flat=flatten, force=running.force)
        return {"shape": list(array.shape), "type": str(array.dtype)}

    process(batch.plan(inputs, output, (".vqz",), suffix_named(format or "npy")), work, _line, "export", running)


@command
def import_codes(
    inputs: Imported,
    output: Output = None,
    model: Model = None,
    coder: Coder = "auto",
    running: Running = RUNNING,
) -> None:
    """Make .vqz files of codes that `vq export` or another tool has written.

    Of a .npy, which holds codes alone, and of a .dac, --model says what they are codes of.

    \b
    vq import talk.npz -o talk.vqz
    vq import generated.npy --model tokens -o generated.vqz
    vq import talk.ecdc
    vq import talk.dac --model dac-44khz
    """
    from vqcli import batch
    from vqcli.codec import exchange
    from vqcli.container import vqz
    from vqcli.errors import UsageError
    from vqcli.zoo import loading, store

    refuse_foreign(output)
    models: dict[bytes, LoadedModel] = {}

    def work(job: Job) -> dict[str, Any]:
        array, facts = exchange.read(job.source)
        if model is None and (facts is None or not facts.model):
            raise UsageError(f"{job.source} does not say what it holds codes of", "--model NAME")
        info = store.find(model or "") if facts is None or model else exchange.model_of(facts)
        if info.digest not in models:
            models[info.digest] = loading.load(info, running.device)
        loaded = models[info.digest]
        header, payloads = exchange.file_of(loaded, exchange.restored(array, facts, loaded), coder)
        vqz.write(job.target, header, payloads, force=running.force)
        return {"shape": list(array.shape), "bytes": len(vqz.pack(header, payloads))}

    suffixes = tuple(f".{name}" for name in exchange.FORMATS)
    process(batch.plan(inputs, output, suffixes, ".vqz"), work, _line, "import", running)


def _line(job: Job, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    said = " x ".join(map(str, facts["shape"])) + (f", {console.size(facts['bytes'])}" if "bytes" in facts else "")
    return f"{job.source} -> {job.target} {said}", {"source": str(job.source), "target": str(job.target), **facts}
