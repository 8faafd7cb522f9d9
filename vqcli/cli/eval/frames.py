"""vq eval frames"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Baselines, Count, Model, Running, command, words

if TYPE_CHECKING:
    from vqcli.evaluation.video.boxing import Places
    from vqcli.evaluation.video.frames import FrameWindows, Latents
    from vqcli.zoo.loading import LoadedModel


Recording = Annotated[Path, typer.Argument(help="A folder that vq record made.", show_default=False)]
FRAMES = 500  # spread evenly over the held-out episodes


@command
def frames(
    recording: Recording,
    model: Model = None,
    count: Count = None,
    baselines: Baselines = None,
    running: Running = RUNNING,
) -> None:
    """Measure a model on held-out frames of a recording: PSNR, bytes, bits a code under its coders and priors.

    Of a prior over video, bits are given with the true frames and actions before, without actions, with those of
    another window, and without any frame before.

    Of two stages of codes: bits a code of the first stage given the right latents and given those of another frame, and
    whether sampled frames follow their own. Of Boxing also how far the boxers stand from where they were, and how far
    from where they were in another frame.

    \b
    vq eval frames boxing/ --model boxing
    vq eval frames boxing/ --model boxing-27bit -n 200 --json
    """
    from vqcli.errors import UsageError
    from vqcli.evaluation.video import frames as measures
    from vqcli.zoo import loading

    if model is None:
        raise UsageError("which model?", "--model NAME, of one of frames: boxing, doom")
    loaded = loading.load(model, running.device)
    two = loaded.image.first is not None
    seen = measures.load_windows(recording, count or FRAMES, 1 if two else measures.length_of(loaded))
    if two:
        with console.progress("sampling", len(seen), "frame") as progress:
            found = measures.latents(loaded, seen, progress)
        _show_latents(found, running.as_json)
    else:
        codecs = measures.USUAL if baselines is None else words(baselines)
        _show_codec(loaded, seen, codecs, running.as_json)


def _show_codec(model: LoadedModel, seen: FrameWindows, codecs: Sequence[str], as_json: bool) -> None:
    from dataclasses import asdict

    from vqcli.evaluation.video import frames as measures

    with console.progress("measuring", len(seen), "frame") as progress:
        points = measures.points(model, seen, codecs, progress)
    with console.progress("counting bits") as progress:
        costs = measures.costs(model, seen, progress)
    if as_json:
        console.emit_json({"codecs": [asdict(point) for point in points], "costs": [asdict(cost) for cost in costs]})
        return
    console.emit_table(
        ("codec", "frames", "bytes", "PSNR dB", "MS-SSIM"),
        [
            (point.codec, point.picture, f"{point.size_bytes:,}", f"{point.psnr_db:.2f}", f"{point.ms_ssim:.4f}")
            for point in points
        ],
    )
    console.emit_table(
        ("codes under", "bits/code", "bytes a file", "bits/pixel"),
        [
            (
                cost.under,
                f"{cost.bits_per_code:.3f}",
                "–" if cost.size_bytes is None else f"{cost.size_bytes:,}",
                f"{cost.bits_per_pixel:.4f}",
            )
            for cost in costs
        ],
    )
    console.say("bytes are those of whole files, the codes packed; a usual codec takes no more, or the least it can")


def _show_latents(found: Latents, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        console.emit_json(asdict(found) | {"told_bits": found.saved_bits})
        return
    rows: list[tuple[Any, ...]] = [
        ("bits a code of the first stage", f"{found.right:.3f}", f"{found.shuffled:.3f}"),
        ("PSNR of sampled frames, dB", f"{found.own_db:.2f}", f"{found.other_db:.2f}"),
    ]
    if found.places:
        rows += _places(found.places)
    console.emit_table(("", "its own frame", "another frame"), rows)
    console.say(
        f"{found.payload_bits} bits of codes a frame, {found.file_bytes} bytes a file; {found.frames} frames. The "
        f"right latents save {found.saved_bits:.0f} bits of a frame's {found.codes} codes"
    )
    console.say(f"the first stage alone comes back at {found.first_stage_db:.2f} dB")
    if found.places:
        console.say(
            f"both boxers are found in {found.places.found_true:.1%} of true, {found.places.found_drawn:.1%} of sampled"
        )


def _places(places: Places) -> list[tuple[str, str, str]]:
    from vqcli.evaluation.video.boxing import NEAR

    return [
        ("boxers away from where they were, pixels", f"{places.distance:.1f}", f"{places.distance_other:.1f}"),
        (f"frames with both within {NEAR:g} pixels", f"{places.kept:.1%}", f"{places.kept_other:.1%}"),
    ]
