"""What a newcomer needs: the commands of the first minute, and three usual lines of commands that are given nothing."""

from __future__ import annotations

import typer

from vqcli.cli import console

FIRST_MINUTE = (
    ("vq demo", "what vq does, on a photograph, a sentence and a clip: a page to open"),
    ("vq encode photo.png", "your own image to photo.vqz"),
    ("vq decode photo.vqz", "and back, beside the original"),
    ("vq sample --class fox", "new images of a class"),
    ("vq train --smoke", "a first model, in under a minute"),
)

# Of commands that do nothing alone: what they ask, and what is most often done
USUAL: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "encode": (
        "encode what?",
        (
            ("vq encode photo.png", "an image, recording or clip to photo.vqz"),
            ("vq encode photo.png --bpp 0.3 -o small.vqz", "at a size of your choice"),
            ("vq encode images/ -o codes/", "a folder"),
        ),
    ),
    "decode": (
        "decode what?",
        (
            ("vq decode photo.vqz", "an image, recording or clip, beside the file"),
            ("vq decode photo.vqz -o photo.webp", "in another format"),
            ("vq decode codes/ -o images/", "a folder"),
        ),
    ),
    "sample": (
        "sample what?",
        (
            ("vq sample --class fox -n 8 -o foxes.png", "images of a class"),
            ("vq sample --from photo.png --keep left", "the rest of an image"),
            ("vq sample --model doom --frames 16", "a clip"),
        ),
    ),
    "train": (
        "train on what?",
        (
            ("vq train --smoke", "a first try on made shapes, in under a minute"),
            ("vq train images/", "a recipe that fits what lies in the folder"),
            ("vq train tokens images/ -o my-tokens", "a recipe of your choice (vq recipes lists them)"),
        ),
    ),
    "eval": (
        "measure what?",
        (
            ("vq eval images/", "rate and distortion of the default model"),
            ("vq eval images/ --model tokens --baselines JPEG,AVIF", "of another beside usual codecs"),
            ("vq eval samples animals/ --model tokens", "how good samples are"),
        ),
    ),
}


def ask(command: str) -> None:
    """The usual lines of a command that was given nothing, on stderr; leaves as errors of usage do."""
    question, lines = USUAL[command]
    width = max(len(line) for line, _ in lines)
    console.warn(f"vq: {question}")
    for line, what in lines:
        console.warn(f"    {line:{width}}  {what}")
    console.warn(f"    vq {command} --help lists all")
    raise typer.Exit(2)
