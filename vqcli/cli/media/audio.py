"""What commands ask and say of audio."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import Request

if TYPE_CHECKING:
    from vqcli.api import DecodedAudio, EncodedAudio
    from vqcli.container.vqz import Header
    from vqcli.zoo.loading import LoadedModel

PLURAL = "audio"
PRIOR, SAMPLE = "wavenet", Path("sample.wav")
LOST = "recording is lost, and silent"


@dataclass(frozen=True)
class EncodeOptions:
    mono: Annotated[
        bool | None,
        typer.Option(
            "--mono/--channels",
            help="Mix all channels of a recording, or code each alone.",
            show_default="--mono, but two for models of stereo",
        ),
    ] = None
    kbit_per_s: Annotated[
        float | None,
        typer.Option(
            "--kbps", help="Of recordings: as many levels as fit into this rate.", min=0.0, show_default=False
        ),
    ] = None


@dataclass(frozen=True)
class SampleOptions:
    speakers: Annotated[
        list[str] | None,
        typer.Option(
            "--speaker", help="Whose voice; several each speak.", show_default="any", autocompletion=complete.speakers
        ),
    ] = None
    seconds: Annotated[float | None, typer.Option(help="Length of new speech.", show_default="4")] = None


def suffix() -> str:
    return ".wav"


def line(result: EncodedAudio, took_s: float) -> str:
    return f"{result.kbit_per_s:.2f} kbit/s, {console.speed(result.audio.length_s, took_s)}"


def facts(result: EncodedAudio, took_s: float) -> dict[str, Any]:
    return {"kbit_per_s": result.kbit_per_s, "length_s": result.audio.length_s, "took_s": took_s}


def decoded_line(result: DecodedAudio, took_s: float) -> tuple[str, dict[str, Any]]:
    channels = console.plural(result.channels, "channel")
    said = f"{result.rate_hz} Hz, {channels}, {console.speed(result.length_s, took_s)}"
    facts = {"length_s": result.length_s, "rate_hz": result.rate_hz, "channels": result.channels, "took_s": took_s}
    return said, facts


def remarks(result: DecodedAudio, format: str, salvage: bool) -> list[str]:
    return []


def header_facts(header: Header, size_bytes: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    samples, rate_hz, channels = header.size
    length_s = samples / rate_hz
    chunks = header.chunk_count
    starts = range(0, header.levels * chunks, chunks)  # of the chunks of each level
    rates = [8 * sum(lengths[at : at + chunks]) / length_s / 1000 for at in starts]
    loudness = header.metadata.get("loudness_db")
    return {
        "length_s": round(length_s, 3),
        "rate_hz": rate_hz,
        "channels": channels,
        "samples": samples,
        **({"loudness_db": loudness} if loudness else {}),
        "kbit_per_s": round(8 * size_bytes / length_s / 1000, 4),
        "kbit_per_s_without_header": round(sum(rates), 4),
        "kbit_per_s_of_levels": [round(rate, 4) for rate in rates],
        **(_side_facts(header, length_s) if header.side_bytes else {}),
        "codes_per_s": round(header.grid[0] / length_s, 2),
    }


def _side_facts(header: Header, length_s: float) -> dict[str, Any]:
    """Of side information, which is in the payloads of the first level."""
    rate = 8 * header.side_bytes / length_s / 1000
    return {"side_bytes": header.side_bytes, "kbit_per_s_of_side": round(rate, 4)}


def verify(
    result: EncodedAudio, decoded: DecodedAudio, source: Path, options: EncodeOptions
) -> tuple[str, dict[str, Any]]:
    import numpy as np

    from vqcli.errors import VqError

    if not np.array_equal(result.codes, decoded.codes):
        raise VqError("the file does not return the codes", "this is a defect of vq: please report it")
    seconds = sum(block.shape[1] for block in decoded.blocks()) / decoded.rate_hz
    return f"verified: every code is equal, decodes to {seconds:.2f} s", {"decoded_s": seconds}


def verify_decoded(result: DecodedAudio, target: Path) -> tuple[str, dict[str, Any]]:
    from vqcli.cli.media import codes_verified

    return codes_verified(bool(result.lost.any()))


def sample(model: LoadedModel, target: Path, options: SampleOptions, request: Request) -> list[dict[str, Any]]:
    from vqcli.media import audio
    from vqcli.sampling.speech import sample_speech

    clip = audio.read(request.start, model.audio.rate_hz, mono=True) if request.start else None
    for note in clip.notes if clip else ():
        console.say(f"{request.start}: {note}")
    begun = time.perf_counter()
    with console.progress(f"speaking with {model.info.name}") as progress:
        spoken = sample_speech(
            model,
            prior=request.prior or PRIOR,
            speakers=options.speakers or (),
            count=request.count or 1,
            seconds=4.0 if options.seconds is None else options.seconds,
            seed=request.seed,
            sampling=request.sampling,
            start=clip,
            progress=progress,
        )
    took = console.speed(spoken.sounds.size / spoken.rate_hz, time.perf_counter() - begun)
    voices = ", ".join(dict.fromkeys(name for name in spoken.speakers if name)) or "the clip's own voice"
    console.say(f"{console.plural(len(spoken.speakers), 'sample')} of {voices}, seed {request.seed}: {took}")
    written = spoken.save(target, force=request.force)
    for path in written:
        console.say(f"-> {path}")
    return [
        {"file": str(path), "speaker": name, "seconds": round(len(sound) / spoken.rate_hz, 2), "seed": request.seed}
        for path, name, sound in zip(written, spoken.speakers, spoken.sounds, strict=True)
    ]


def check_target(target: Path) -> None:
    """Raise UsageError for a format that audio cannot be written in."""
    from vqcli.media import audio

    audio.format_of(target)
