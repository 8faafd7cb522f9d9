"""vq record"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console


def record(
    game: Annotated[str, typer.Argument(help="boxing or doom.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the recording; one broken off goes on.", show_default=False),
    ],
    frames: Annotated[int, typer.Option(help="Frames in all.", min=1)] = 60_000,
    seed: Annotated[int, typer.Option(help="The same seed plays the same games.")] = 0,
    length: Annotated[
        int | None,
        typer.Option(
            help="Frames of an episode at most.",
            min=1,
            max=20_000,
            show_default="1800 of boxing, 500 of doom, never above an 8th of all",
        ),
    ] = None,
) -> None:
    """Make data to train on by playing a game at random: frames of 84 x 84 and the action taken after each.

    boxing is Atari Boxing. doom is a maze in first person, which stands in for the DeepMind Lab of the paper: that is
    not to be had as a package. What plays them is an extra: pip install 'vqcli[games]'.

    The recording is a folder of .npz files, one an episode, with arrays `images` and `actions`. vq train, vq eval and
    vq pack read it. One episode of 16 is held out, as a whole.

    \b
    vq record boxing -o boxing
    vq record doom --frames 20000 -o maze --seed 7
    """
    from vqcli.data import games, recordings

    found = games.find(game)
    there = recordings.facts_of(output)
    length = length or (there.length if there else recordings.episode_length(frames, found.length))
    facts = recordings.Facts(game, seed, length)
    with found.start() as play, console.progress(f"playing {game}") as progress:
        made = recordings.record(play, output, facts, frames, progress)
    episodes = f"{console.plural(made.episodes, 'episode')}, {made.held_out} of them held out"
    console.say(f"{output}: {found.title}; {made.frames} frames in {episodes}; {console.size(made.size_bytes)}")
