"""vq eval: pictures or speech, unless the first word names something else to measure (a file eval_*.py each)"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vqcli.cli.eval.codes import codes
from vqcli.cli.eval.conversion import conversion
from vqcli.cli.eval.frames import frames
from vqcli.cli.eval.likelihood import likelihood
from vqcli.cli.eval.lossless import lossless
from vqcli.cli.eval.phonemes import phonemes
from vqcli.cli.eval.rd import BESIDE, pictures
from vqcli.cli.eval.samples import samples
from vqcli.cli.eval.speech import BESIDE_SPEECH, HeldOut, Judges, speech
from vqcli.cli.eval.video import video
from vqcli.cli.options import AsJson, Coder, Device, Force, numbers

if TYPE_CHECKING:
    pass


class CommandOrFiles(TyperGroup):
    """A group that is itself the command for all but the names of its commands."""

    allow_interspersed_args = True  # options may follow files, as in every command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and args[0] in self.commands:
            command, rest = self.commands[args[0]], args[1:]
            return command.make_context(f"{info_name} {args[0]}", rest, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def evaluate(
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures or clips of speech, or folders of them.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model.", show_default="photo, or speech for clips")
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(help="Qualities of pictures to measure, with commas.", show_default="six over the scale"),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            help="Usual codecs, of pictures at equal bytes, with commas; empty for none.",
            show_default="JPEG,WebP,AVIF or Opus,Codec2-1300,Codec2-700C",
        ),
    ] = None,
    coder: Coder = "auto",
    held_out: HeldOut = False,
    judges: Judges = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw rate and distortion to this PNG, SVG or PDF; of speech, spectrograms of the first clip.",
            show_default=False,
        ),
    ] = None,
    all_files: Annotated[bool, typer.Option("--all", help="A row for each file, not only the means.")] = False,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on pictures: bits per pixel of whole files, PSNR, MS-SSIM; usual codecs at equal bytes beside it.

    On clips of speech: kbit/s of whole files, for each number of levels; log-mel distance and correlation, pitch, STOI,
    wrong words; Opus at its lowest rate and Codec2 beside it, where its commands are installed.

    \b
    vq eval pictures/
    vq eval pictures/ --model tokens --beside JPEG,WebP
    vq eval pictures/ --qualities 2,5,8 --plot rd.png --json
    vq eval clips/ --plot spectrograms.webp

    A first word that is one of the commands below measures something else, with options of its own (vq eval samples
    --help); a folder of that name is samples/ or ./samples.

    \b
    vq eval samples animals/ --model tokens    how often drawn pictures show their class
    vq eval codes pictures/ --model tokens     bits for each code, under every coder
    vq eval lossless pictures/                 bytes of pictures that return pixel for pixel
    vq eval likelihood cifar10 cifar10.npz     bits/dim, a bound
    vq eval conversion clips/ --to p225        words, likeness and quality in another voice
    vq eval phonemes speech timit/             what codes of speech tell of phonemes
    vq eval frames boxing/ --model boxing      frames of a recording: PSNR, bits a code, two stages
    vq eval video doom/ --model doom           drawn video: whether it shows the action it was told
    """
    from vqcli import api, batch
    from vqcli.data import split
    from vqcli.errors import UsageError
    from vqcli.media import audio, image
    from vqcli.zoo import store

    suffixes = {"image": image.SUFFIXES, "audio": audio.SUFFIXES}
    told = store.find(model) if model else None
    found = batch.plan(inputs, Path(), suffixes[told.modality] if told else image.SUFFIXES + audio.SUFFIXES, "")
    kept = split.held_out([job.name for job in found]) if held_out else [True] * len(found)
    paths = [job.source for job, keep in zip(found, kept, strict=True) if keep]
    if not paths:
        raise UsageError("none of the files is held out", "leave --held-out away to measure all of them")
    modalities = {told.modality} if told else {api.modality_of(path) for path in paths}
    if len(modalities) > 1:
        raise UsageError("there are pictures and sounds", "--model says which of them to measure")
    [modality] = modalities
    chosen = told or store.find(store.DEFAULTS[modality])
    options: dict[str, Any] = {"coder": coder, "plot": plot, "each": all_files, "force": force, "as_json": as_json}
    if modality == "audio":
        if qualities is not None:
            raise UsageError("speech has no qualities", "every number of levels is measured")
        speech(chosen, paths, device, beside=BESIDE_SPEECH if beside is None else beside, judges=judges, **options)
    else:
        beside = BESIDE if beside is None else beside
        pictures(chosen, paths, device, qualities=numbers(qualities), beside=beside, **options)


evaluations = typer.Typer(cls=CommandOrFiles, invoke_without_command=True, subcommand_metavar="| COMMAND [ARGS]...")
evaluations.callback()(evaluate)
evaluations.command()(samples)
evaluations.command()(codes)
evaluations.command()(conversion)
evaluations.command()(frames)
evaluations.command()(likelihood)
evaluations.command()(lossless)
evaluations.command()(phonemes)
evaluations.command()(video)
