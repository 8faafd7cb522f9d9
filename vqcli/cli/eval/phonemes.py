"""vq eval phonemes"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Model, Running, command, only_one, split_model

if TYPE_CHECKING:
    from vqcli.evaluation.speech.phonemes import PhonemeResult

Data = Annotated[
    list[Path],
    typer.Argument(help="A folder for each speaker: audio, with .phn or .lab beside the files.", show_default=False),
]


@command
def phonemes(
    data: Data,
    model: Model = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Audio for k-means to learn from.", show_default="the speakers that its map is made of"),
    ] = None,
    top: Annotated[int, typer.Option(help="How many codes to list, the most frequent first.", min=0)] = 16,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="An image of codes and phonemes.", show_default=False)
    ] = None,
    running: Running = RUNNING,
) -> None:
    """How much the codes of a speech model say of phonemes that it was trained without.

    Each code of the first group stands for the phoneme it meets most often on half of the speakers, and is scored on
    the other half; then the halves change places. One label for each position, the phoneme at its middle; silence is
    left out. Beside it: the most common phoneme, and k-means of normalised cepstra with as many codes at the same rate.

    \b
    vq eval phonemes timit/ --model speech-25hz
    vq eval phonemes timit/ --train clips/ -o codes.png
    vq eval phonemes vctk/ --model speech-25hz --top 128 --json
    """
    from vqcli.evaluation.speech import phonemes
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.zoo import loading, store

    if output:
        refuse_existing(output, running.force)
    data, model = split_model(data, model)
    loaded = loading.load(model or store.DEFAULTS["audio"], running.device)
    clips = phonemes.find_clips(only_one(data), console.leave_out)
    with console.progress(f"listening to {console.plural(len(clips), 'clip')}") as progress:
        found = phonemes.measure(loaded, clips, train, progress=progress, complain=console.leave_out)
    if output:
        image.write(output, phonemes.heat_map(found.codes), force=running.force)
        console.say(f"drawn to {output}")

    listed = phonemes.most_frequent(found.codes, top)
    if running.as_json:
        codes = [{"code": code, "times": times, "phonemes": dict(shares)} for code, times, shares in listed]
        console.emit_json(_facts(loaded.info.name, found) | {"codes": codes})
        return
    console.emit_table(
        ("what names the phoneme", "bit/s", "right"),
        [
            (f"codes of {loaded.info.name}", f"{found.bits_per_second:.0f}", f"{found.codes.accuracy:.1%}"),
            (f"k-means of cepstra, K = {found.K}", f"{found.bits_per_second:.0f}", f"{found.kmeans:.1%}"),
            ("the most common phoneme", "0", f"{found.codes.most_common:.1%}"),
        ],
    )
    rows = [
        (str(code), f"{times:,}", ", ".join(f"{name} {share:.0%}" for name, share in shares))
        for code, times, shares in listed
    ]
    if rows:
        console.emit_table(("code", "times", "stands for, and what else it met"), rows)
    console.say(phonemes.definition(found))


def _facts(model: str, found: PhonemeResult) -> dict[str, Any]:
    from vqcli.evaluation.speech import phonemes

    codes = found.codes
    return {
        "model": model,
        "definition": phonemes.definition(found),
        "accuracy": codes.accuracy,
        "halves": codes.accuracies,
        "kmeans": found.kmeans,
        "most_common": codes.most_common,
        "classes": codes.classes,
        "positions": codes.positions,
        "speakers": codes.speakers,
        "clips": found.clips,
        "K": found.K,
        "rate_hz": found.rate_hz,
        "bits_per_second": found.bits_per_second,
    }
