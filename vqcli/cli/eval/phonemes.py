"""vq eval phonemes"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, Force


def phonemes(
    model: Annotated[str, typer.Argument(help="Name or folder of a model for sound.", show_default=False)],
    data: Annotated[
        Path,
        typer.Argument(help="A folder for each speaker: sounds, with .phn or .lab beside them.", show_default=False),
    ],
    train: Annotated[
        Path | None,
        typer.Option(help="Sounds for k-means to learn from.", show_default="the speakers that its map is made of"),
    ] = None,
    top: Annotated[int, typer.Option(help="How many codes to list, the most frequent first.", min=0)] = 16,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A picture of codes and phonemes.", show_default=False),
    ] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How much the codes of a speech model tell of phonemes that it was never told of.

    Each code of the first group stands for the phoneme it meets most often on half of the speakers, and is scored on
    the other half; then the halves change places. One label for each position, the phoneme at its middle; silence is
    left out. Beside it: the most common phoneme, and k-means of normalised cepstra with as many codes at the same rate.

    \b
    vq eval phonemes speech-25hz timit/
    vq eval phonemes speech timit/ --train clips/ -o codes.png
    vq eval phonemes speech-25hz vctk/ --top 128 --json
    """
    from vqcli.errors import UsageError
    from vqcli.evaluation.speech import phonemes
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.zoo import loading

    if output:
        refuse_existing(output, force)
    loaded = loading.load(model, device)
    if loaded.info.modality != "audio":
        raise UsageError(f"model {loaded.info.name} is for {loaded.info.modality}s", "name one for sound, as speech")
    clips = phonemes.find_clips(data, console.complain)
    with console.progress(f"listening to {console.plural(len(clips), 'clip')}") as report:
        found = phonemes.measure(loaded, clips, train, report=report, complain=console.complain)
    if output:
        image.write(output, phonemes.heat_map(found.codes), force=force)
        console.say(f"drawn to {output}")

    codes = found.codes
    listed = phonemes.most_frequent(codes, top)
    if as_json:
        facts = {
            "model": loaded.info.name,
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
        console.emit_json(
            facts | {"codes": [{"code": c, "times": n, "phonemes": dict(shares)} for c, n, shares in listed]}
        )
        return
    rows = [
        (str(code), f"{times:,}", ", ".join(f"{name} {share:.0%}" for name, share in shares))
        for code, times, shares in listed
    ]
    console.emit_table(
        ("what names the phoneme", "bit/s", "right"),
        [
            (f"codes of {loaded.info.name}", f"{found.bits_per_second:.0f}", f"{codes.accuracy:.1%}"),
            (f"k-means of cepstra, K = {found.K}", f"{found.bits_per_second:.0f}", f"{found.kmeans:.1%}"),
            ("the most common phoneme", "0", f"{codes.most_common:.1%}"),
        ],
    )
    if rows:
        console.emit_table(("code", "times", "stands for, and what else it met"), rows)
    console.say(phonemes.definition(found))
