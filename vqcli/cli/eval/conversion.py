"""vq eval conversion"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.eval.speech import asked, picture_of_first, table
from vqcli.cli.files import UNREAD_SOUNDS, taken
from vqcli.cli.options import RUNNING, Evaluators, HeldOut, Model, Plot, Running, command

COLUMNS = (  # title, attribute, format
    ("to", "to", ""),
    ("clip", "clip", ""),
    ("Hz", "pitch_hz", ".0f"),
    ("target's", "target_hz", ".0f"),
    ("melody", "melody", ".3f"),
    ("log-mel", "log_mel_correlation", ".3f"),
    ("words wrong", "word_error", ".3f"),
    ("source's", "source_word_error", ".3f"),
    ("like target", "like_target", ".3f"),
    ("like source", "like_speaker", ".3f"),
    ("DNSMOS", "quality", ".2f"),
    ("source's", "source_quality", ".2f"),
)


@dataclass(frozen=True)
class How:
    """How speech is converted, and by what voices are known."""

    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="A voice to convert to; may be given several times.", show_default=False),
    ] = None
    references: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder with a subfolder of clips for each speaker, to know voices by; more than once if need be.",
            show_default="the inputs",
        ),
    ] = None
    pitch: Annotated[str, typer.Option(help="target: the register of the voice; keep: that of the clip.")] = "target"
    levels: Annotated[int, typer.Option(help="Residual levels that stay: more bring the source back.", min=1)] = 1


Inputs = Annotated[
    list[Path],
    typer.Argument(help="Clips, or folders with a subfolder of clips for each speaker.", show_default=False),
]


@command
def conversion(
    inputs: Inputs,
    how: How = How(),
    model: Model = None,
    held_out: HeldOut = False,
    evaluators: Evaluators = None,
    plot: Plot = None,
    each: Annotated[bool, typer.Option("--all", help="A row for each conversion, not only the means.")] = False,
    running: Running = RUNNING,
) -> None:
    """Convert clips to other voices and measure what became of words, voice, melody and quality.

    A clip is of the speaker that its folder is called after, or what stands before the first _ or - in its name;
    clips of a target are not converted to it. The words that are said lie in a .txt file beside a clip. Without the
    extra evaluators the pitch is measured, and how the spectrum goes along with the clip's.

    \b
    vq eval conversion clips/ --to p225
    vq eval conversion clips/ --to p225 --to p226 --references vctk/ --json
    vq eval conversion vctk/ --held-out --to p225 --plot conversion.webp
    """
    from dataclasses import asdict

    from vqcli.errors import UsageError
    from vqcli.evaluation.speech.conversion import evaluate, means
    from vqcli.zoo import loading, store

    if not how.to:
        raise UsageError("to which voice?", "--to NAME (vq models show speech lists them)")
    look = picture_of_first(plot, running.force)
    asking = asked(evaluators)
    clips, known = _clips(inputs, how.references, held_out)
    loaded = loading.load(model or store.DEFAULTS["audio"], running.device)
    with console.progress("converting", len(clips), "clip") as progress:
        conversions = list(
            evaluate(
                loaded,
                clips,
                list(dict.fromkeys(how.to)),
                known,
                pitch=how.pitch,
                levels=how.levels,
                with_evaluators=asking,
                progress=progress,
                complain=console.leave_out,
                on_audio=look,
            )
        )
    if not conversions:
        raise UsageError("there is nothing to convert", "the clips cannot be read, or are of the target itself")
    averages = means(conversions)
    shown = conversions if each else averages
    if running.as_json:
        console.emit_json([asdict(one) for one in shown])
        return
    table(shown, COLUMNS, each)
    console.say("Hz: mean pitch; melody, log-mel: correlation of log Hz and of log-mel spectra with the source's")
    took_s = averages[-1].seconds / averages[-1].speed
    console.say(f"{console.plural(len(conversions), 'conversion')}: {console.speed(averages[-1].seconds, took_s)}")
    if not asking and evaluators is None:
        console.say("words, likeness and quality need: pip install 'vqcli[evaluators]'")


def _clips(
    inputs: list[Path], references: list[Path] | None, held_out: bool
) -> tuple[dict[Path, str], dict[str, list[Path]]]:
    """The clips with the speaker of each, and those by which each speaker is known."""
    from vqcli.data.split import is_held_out
    from vqcli.errors import UsageError
    from vqcli.evaluation.speech.conversion import speaker_of
    from vqcli.media import audio

    found = taken(inputs, audio.SUFFIXES, UNREAD_SOUNDS)
    clips = {job.source: speaker_of(job.name) for job in found if is_held_out(job.name) or not held_out}
    if not clips:
        raise UsageError("none of the clips is held out", "leave --held-out away to measure all of them")
    known: dict[str, list[Path]] = {}
    for job in taken(references, audio.SUFFIXES) if references else found:
        known.setdefault(speaker_of(job.name), []).append(job.source)
    return clips, known
