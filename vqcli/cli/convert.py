"""vq convert-speaker"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import STREAM, Allowed, Device, Force, Model, Output, command

if TYPE_CHECKING:
    from vqcli.codec.codes import AudioCodes
    from vqcli.codec.voices import Voice
    from vqcli.container.bounds import Limits
    from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True)
class Target:
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
    to_voice: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of the voice, of a few seconds to 10 minutes, or a .voice file of --save-voice.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None
    save_voice: Annotated[
        Path | None,
        typer.Option(help="Keep the voice of --to-voice in this file.", metavar="FILE.voice", show_default=False),
    ] = None
    voice_steps: Annotated[
        int,
        typer.Option(
            help="Steps by which --to-voice fits the voice to the recording; 0: as the model predicts it.",
            min=0,
            max=10_000,
        ),
    ] = 100
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
    target: Target = Target(),
    allowed: Allowed = Allowed(),
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
    vq convert-speaker in.wav --to-voice me.wav --save-voice me.voice
    vq convert-speaker in.wav --to-voice me.voice
    vq models show speech
    """
    from vqcli.codec import conversion, voices
    from vqcli.container.bounds import Limits
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.zoo import loading, store

    if not (inputs or from_codes) or (inputs and from_codes):
        raise UsageError("what should be converted?", "name a recording, or --from-codes FILE")
    limits = Limits(allowed.max_pixels, allowed.max_seconds)
    stored, loaded = _stored(from_codes, device, limits) if from_codes else (None, None)
    info = loaded.info if loaded else store.find(model or store.DEFAULTS["audio"])
    names = [voices.find(info, name).name for name in target.to or []]  # before any work
    names += [path.stem for path in target.to_voice or []]
    if not names:
        best = ", ".join(each.name for each in voices.speakers(info)[:8])
        raise UsageError("to which voice?", f"--to NAME: {best}, ... (vq models show {info.name} lists all)")
    if target.save_voice and len(target.to_voice or []) != 1:
        raise UsageError("--save-voice keeps the voice of one recording", "--to-voice FILE, once")
    sources = [from_codes] if from_codes else _sources(inputs or [])
    many = len(sources) * len(names)
    places = {source: [_place(source, name, output, many) for name in names] for source in sources}
    results = [*(place for each in places.values() for place in each), *filter(None, [target.save_voice])]
    for number, place in enumerate(results):
        if place in results[:number]:
            raise UsageError(f"two results would be {place}", "give files and voices different names")
        if place != STREAM:
            refuse_existing(place, force)
    loaded = loaded or loading.load(info, device)
    targets: list[str | Voice] = [*(target.to or []), *_voices(loaded, target, force)]
    for source, own in places.items():
        codes = stored or _encoded(source, loaded, limits)
        for to, name, place in zip(targets, names, own, strict=True):
            begun = time.perf_counter()
            with console.progress(f"{source.name} as {name}") as progress:
                converted = conversion.convert_speaker(
                    codes, to, loaded, pitch=target.pitch, semitones=target.semitones, levels=target.levels
                )
                with console.data_out() if place == STREAM else nullcontext(place) as opened:
                    converted.save(opened, force=force, progress=progress)
            took = console.speed(converted.audio.length_s, time.perf_counter() - begun)
            console.say(f"{source} -> {place} as {name}, {took}")


def _stored(path: Path, device: str, limits: Limits) -> tuple[AudioCodes, LoadedModel]:
    """The codes in a .vqz file, and the model that they belong to."""
    from vqcli import api
    from vqcli.codec import audio_file
    from vqcli.container import vqz

    file = vqz.read(path, limits=limits)
    loaded = api.load_for(file.header, None, device)
    audio_file.check_audio(loaded, file.header)
    return audio_file.unpack_audio(loaded, file)[0], loaded


def _encoded(source: Path, loaded: LoadedModel, limits: Limits) -> AudioCodes:
    """The codes of a recording."""
    from vqcli.codec import windows
    from vqcli.media import audio

    opened = console.data_in() if source == STREAM else source
    recording = audio.read(opened, loaded.audio.rate_hz, mono=True, limits=limits)
    for note in recording.notes:
        console.say(f"{source}: {note}")
    with console.progress(f"encoding {source.name}") as progress:
        return windows.encode_audio(loaded, recording, progress)


def _voices(model: LoadedModel, target: Target, force: bool) -> list[Voice]:
    """The voices of --to-voice, of which --save-voice keeps the only one."""
    from vqcli.codec import voices

    found = []
    for path in target.to_voice or []:
        known = (
            voices.load(path, model)
            if path.suffix.lower() == voices.SUFFIX
            else _fitted(path, model, target.voice_steps)
        )
        console.say(f"{path}: {known.speaker.seconds:.0f} s of speech at {known.speaker.pitch_hz:.0f} Hz on average")
        if target.save_voice:
            known.save(target.save_voice, force=force)
        found.append(known)
    return found


def _fitted(path: Path, model: LoadedModel, steps: int) -> Voice:
    """The voice of a recording."""
    from vqcli.codec import voices

    known = voices.reference(model, path)
    if not steps:
        return voices.of_reference(model, known)
    from vqcli.training import new_speaker

    with console.progress(f"fitting the voice of {path.name}") as progress:
        return new_speaker.fit_voice(model, known, steps=steps, progress=progress)


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


def _place(source: Path, name: str, output: Path | None, results: int) -> Path:
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
