"""vq convert-speaker"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import STREAM, Device, Force, Model, Output, command

if TYPE_CHECKING:
    from vqcli.codec.codes import AudioCodes
    from vqcli.zoo.loading import LoadedModel
    from vqcli.zoo.store import ModelInfo


@dataclass(frozen=True)
class Voice:
    """Which voice, and what stays of the source."""

    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            help="The voice; several times for several.",
            metavar="NAME",
            show_default=False,
            autocompletion=complete.speakers,
        ),
    ] = None
    pitch: Annotated[
        str,
        typer.Option(
            help="target: move the melody to the voice's register; keep: leave it.",
            autocompletion=complete.among("target", "keep"),
        ),
    ] = "target"
    semitones: Annotated[float, typer.Option(help="Move the melody besides.", min=-24, max=24)] = 0.0
    levels: Annotated[
        int, typer.Option(help="Levels of codes that are kept: 1 has the words, more sound like the source.", min=1)
    ] = 1


Inputs = Annotated[
    list[Path] | None, typer.Argument(help="Recordings, or folders of them; - is stdin.", show_default=False)
]


@command
def convert_speaker(
    inputs: Inputs = None,
    output: Output = None,
    from_codes: Annotated[
        Path | None, typer.Option(help="A .vqz file of speech instead of a recording.", show_default=False)
    ] = None,
    model: Model = None,
    voice: Voice = Voice(),
    force: Force = False,
    device: Device = "auto",
) -> None:
    """Give speech another voice: words, melody, length and loudness stay.

    \b
    vq convert-speaker in.wav --to p225
    vq convert-speaker in.wav --to p226 -o out.flac --semitones 2
    vq convert-speaker in.wav --to p225 --to 19 -o voices/
    vq convert-speaker --from-codes talk.vqz --to p225
    vq convert-speaker in.wav --to p225 --model speech-wavenet
    vq models show speech
    """
    from vqcli.codec import conversion
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.zoo import store

    if not (inputs or from_codes) or (inputs and from_codes):
        raise UsageError("what should be converted?", "name a recording, or --from-codes FILE")
    info = store.find(model or store.DEFAULTS["audio"])
    voices = [conversion.find(info, name).name for name in voice.to or []]  # before any work
    if not voices:
        best = ", ".join(each.name for each in conversion.speakers(info)[:8])
        raise UsageError("to which voice?", f"--to NAME: {best}, ... (vq models show {info.name} lists all)")
    sources = [from_codes] if from_codes else _sources(inputs or [])
    many = len(sources) * len(voices)
    jobs = {source: [(name, _target(source, name, output, many)) for name in voices] for source in sources}
    for _, target in (job for named in jobs.values() for job in named):
        if target != STREAM:
            refuse_existing(target, force)
    loaded = None
    for source, named in jobs.items():
        codes, loaded = _codes(source, bool(from_codes), loaded, info, device)
        for name, target in named:
            begun = time.perf_counter()
            with console.progress(f"{source.name} as {name}") as progress:
                converted = conversion.convert_speaker(
                    codes, name, loaded, pitch=voice.pitch, semitones=voice.semitones, levels=voice.levels
                )
                with console.data_out() if target == STREAM else nullcontext(target) as place:
                    converted.save(place, force=force, progress=progress)
            took = console.speed(converted.audio.length_s, time.perf_counter() - begun)
            console.say(f"{source} -> {target} as {name}, {took}")


def _codes(
    source: Path, is_codes: bool, loaded: LoadedModel | None, info: ModelInfo, device: str
) -> tuple[AudioCodes, LoadedModel]:
    """The codes of a recording, or those in a .vqz file, and the model that they belong to."""
    from vqcli import api
    from vqcli.codec import audio_file, windows
    from vqcli.container import vqz
    from vqcli.media import audio
    from vqcli.zoo import loading

    if is_codes:
        file = vqz.read(source)
        loaded = api.load_for(file.header, None, device)
        audio_file.check_audio(loaded, file.header)
        return audio_file.unpack_audio(loaded, file)[0], loaded
    loaded = loaded or loading.load(info, device)
    recording = audio.read(console.data_in() if source == STREAM else source, loaded.audio.rate_hz, mono=True)
    for note in recording.notes:
        console.say(f"{source}: {note}")
    with console.progress(f"encoding {source.name}") as progress:
        return windows.encode_audio(loaded, recording, progress), loaded


def _sources(inputs: list[Path]) -> list[Path]:
    """The recordings that are named, and those below folders."""
    from vqcli.errors import UsageError
    from vqcli.files import files_below
    from vqcli.media import audio

    found: list[Path] = []
    for path in inputs:
        below = [path]
        if path.is_dir():
            below = [file for file in files_below(path) if file.suffix.lower() in audio.SUFFIXES]
        if not below:
            raise UsageError(f"no recordings in {path}", audio.READS)
        found += below
    return found


def _target(source: Path, name: str, output: Path | None, results: int) -> Path:
    """Where a result goes: beside its source by default, a file or stream that was named, or into a folder."""
    from vqcli.errors import UsageError
    from vqcli.files import make_folder
    from vqcli.media import audio

    suffix = source.suffix if source.suffix.lower() in audio.SUFFIXES else ".wav"
    own = f"{source.stem}-{name}{suffix}"
    if output is None:
        return STREAM if source == STREAM else source.with_name(own)
    if output == STREAM or (output.suffix.lower() in audio.SUFFIXES and not output.is_dir()):
        if results > 1:
            raise UsageError(f"{results} results do not fit into {output}", "name a folder")
        return output
    make_folder(output)
    return output / own
