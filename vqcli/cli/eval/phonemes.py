"""vq eval phonemes"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Model, Running, command, only_one, split_model

if TYPE_CHECKING:
    from vqcli.evaluation.speech.phonemes import PhonemeResult, Scores

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

    Each code of the first group stands for the phoneme it meets most often, and is scored on the phoneme at the middle
    of each position. Held out: fitted on half of the speakers and scored on the other half; then the halves change
    places. In sample: fitted and scored on all, as the paper's figure seems to be. Both without silence, and with
    silence as a class. Beside it: the most common class, and k-means of normalised cepstra with as many codes at the
    same rate.

    \b
    vq eval phonemes timit/ --model speech-25hz
    vq eval phonemes timit/ --train clips/ -o codes.png
    vq eval phonemes vctk/ --model speech-25hz --top 128 --json
    """
    from vqcli.evaluation.speech import phoneme_labels, phonemes
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.zoo import loading, store

    if output:
        refuse_existing(output, running.force)
    data, model = split_model(data, model)
    loaded = loading.load(model or store.DEFAULTS["audio"], running.device)
    clips = phoneme_labels.find_clips(only_one(data), console.leave_out)
    with console.progress("listening", len(clips), "clip") as progress:
        found = phonemes.measure(loaded, clips, train, progress=progress, complain=console.leave_out)
    if output:
        image.write(output, phonemes.heat_map(found.phonemes.codes), force=running.force)
        console.say(f"drawn to {output}")

    listed = phonemes.most_frequent(found.phonemes.codes, top)
    if running.as_json:
        codes = [{"code": code, "times": times, "phonemes": dict(shares)} for code, times, shares in listed]
        console.emit_json(_facts(loaded.info.name, found) | {"codes": codes})
        return
    bits = f"{found.bits_per_second:.0f}"
    rates = {"codes": bits, "kmeans": bits, "most_common": "0"}
    names = {
        "codes": f"codes of {loaded.info.name}",
        "kmeans": f"k-means of cepstra, K = {found.K}",
        "most_common": "the most common class",
    }
    columns = (f"{protocol}{silence}" for silence in ("", ", with silence") for protocol in ("held out", "in sample"))
    shares = [_shares(each) for each in (found.phonemes, found.with_silence)]
    console.emit_table(
        ("what names the phoneme", "bit/s", *columns),
        [
            (name, rates[key], *(f"{share:.1%}" for each in shares for share in each[key].values()))
            for key, name in names.items()
        ],
    )
    rows = [
        (str(code), f"{times:,}", ", ".join(f"{name} {share:.0%}" for name, share in shares))
        for code, times, shares in listed
    ]
    if rows:
        console.emit_table(("code", "times", "stands for, and what else it met"), rows)
    console.say(phonemes.definition(found))


def _shares(scores: Scores) -> dict[str, dict[str, float]]:
    """Shares named right, of what names them, by protocol."""
    accuracies = {"codes": scores.codes.accuracy, "kmeans": scores.kmeans, "most_common": scores.codes.most_common}
    return {name: accuracy._asdict() for name, accuracy in accuracies.items()}


def _facts(model: str, found: PhonemeResult) -> dict[str, Any]:
    from vqcli.evaluation.speech import phonemes

    codes = found.phonemes.codes
    return {
        "model": model,
        "definition": phonemes.definition(found),
        "accuracy": codes.accuracy.held_out,
        "halves": codes.halves,
        "kmeans": found.phonemes.kmeans.held_out,
        "most_common": codes.most_common.held_out,
        "without_silence": _shares(found.phonemes),
        "with_silence": _shares(found.with_silence),
        "classes": codes.classes,
        "positions": codes.positions,
        "positions_with_silence": found.with_silence.codes.positions,
        "speakers": codes.speakers,
        "clips": found.clips,
        "K": found.K,
        "rate_hz": found.rate_hz,
        "bits_per_second": found.bits_per_second,
    }
