"""vq convert-speaker"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import STREAM, Device, Force, Output


def convert_speaker(
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, or folders of them; - is stdin.", show_default=False)
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="The voice; several times for several.", metavar="NAME", show_default=False),
    ] = None,
    output: Output = None,
    from_codes: Annotated[
        Path | None, typer.Option(help="A .vqz file of speech instead of a recording.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Name or folder of a model.")] = "speech",
    pitch: Annotated[
        str, typer.Option(help="target: move the melody to the voice's register; keep: leave it.")
    ] = "target",
    semitones: Annotated[float, typer.Option(help="Move the melody besides.", min=-24, max=24)] = 0.0,
    levels: Annotated[
        int, typer.Option(help="Levels of codes that are kept: 1 has the words, more sound like the source.", min=1)
    ] = 1,
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
    from vqcli import api
    from vqcli.codec import audio_file, conversion, windows
    from vqcli.container import vqz
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import audio
    from vqcli.zoo import loading, store

    if not (inputs or from_codes) or (inputs and from_codes):
        raise UsageError("what should be converted?", "name a recording, or --from-codes FILE")
    info = store.find(model)
    targets = [conversion.find(info, name).name for name in to or []]  # before any work
    if not targets:
        best = ", ".join(each.name for each in conversion.speakers(info)[:8])
        raise UsageError("to which voice?", f"--to NAME: {best}, ... (vq models show {info.name} lists all)")
    sources = [from_codes] if from_codes else _sources(inputs or [])
    jobs = [
        (source, name, _target(source, name, output, len(sources) * len(targets)))
        for source in sources
        for name in targets
    ]
    for *_, target in jobs:
        if target != STREAM:
            refuse_existing(target, force)
    loaded = None
    for source in sources:
        read: Any
        if from_codes:
            file = vqz.read(from_codes)
            audio_file.check_audio(loaded := api.load_for(file.header, None, device), file.header)
            read, _ = audio_file.unpack_audio(loaded, file)
        else:
            loaded = loaded or loading.load(info, device)
            stream = sys.stdin.buffer if source == STREAM else source
            recording = audio.read(stream, loaded.net.rate_hz, mono=True)
            for note in recording.notes:
                console.say(f"{source}: {note}")
            with console.progress(f"listening to {source.name}") as report:
                read = windows.encode_audio(loaded, recording, report)
        for _, name, target in (job for job in jobs if job[0] == source):
            begun = time.perf_counter()
            with console.progress(f"{source.name} as {name}") as report:
                converted = conversion.convert_speaker(
                    read, name, loaded, pitch=pitch, semitones=semitones, levels=levels
                )
                converted.save(sys.stdout.buffer if target == STREAM else target, force=force, report=report)
            took = console.speed(converted.audio.length_s, time.perf_counter() - begun)
            console.say(f"{source} -> {target} as {name}, {took}")


def _sources(inputs: list[Path]) -> list[Path]:
    """The recordings that are named, and those below folders."""
    from vqcli.errors import UsageError
    from vqcli.media import audio

    found: list[Path] = []
    for path in inputs:
        below = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in audio.SUFFIXES)
            if path.is_dir()
            else [path]
        )
        if not below:
            raise UsageError(f"no recordings in {path}", audio.READS)
        found += below
    return found


def _target(source: Path, name: str, output: Path | None, results: int) -> Path:
    """Where a result goes: beside its source by default, a file or stream that was named, or into a folder."""
    from vqcli.errors import UsageError
    from vqcli.media import audio

    suffix = source.suffix if source.suffix.lower() in audio.SUFFIXES else ".wav"
    own = f"{source.stem}-{name}{suffix}"
    if output is None:
        return STREAM if source == STREAM else source.with_name(own)
    if output == STREAM or (output.suffix.lower() in audio.SUFFIXES and not output.is_dir()):
        if results > 1:
            raise UsageError(f"{results} results do not fit into {output}", "name a folder")
        return output
    output.mkdir(parents=True, exist_ok=True)
    return output / own
