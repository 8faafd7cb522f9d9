"""vq eval frames"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device

if TYPE_CHECKING:
    from vqcli.evaluation.video.boxing import Places
    from vqcli.evaluation.video.frames import Latents, Windows
    from vqcli.zoo.loading import LoadedModel


def frames(
    recording: Annotated[Path, typer.Argument(help="A folder that vq record made.", show_default=False)],
    model: Annotated[str, typer.Option(help="Name or folder of a model of frames.", show_default=False)],
    count: Annotated[
        int, typer.Option("-n", help="Frames, spread evenly over the held-out episodes.", min=2, max=5000)
    ] = 500,
    beside: Annotated[
        str, typer.Option(help="Usual codecs at equal bytes, with commas; empty for none.")
    ] = "WebP,JPEG",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on held-out frames of a recording: PSNR, bytes, bits a code under its coders and priors.

    Of a prior over video, bits are told with the true frames and actions before, without actions, with those of another
    window, and without any frame before.

    Of two stages of codes: bits a code of the first stage given the right latents and given those of another frame, and
    whether drawn frames follow their own. Of Boxing also how far the boxers stand from where they were, and how far
    from where they were in another frame.

    \b
    vq eval frames boxing/ --model boxing
    vq eval frames boxing/ --model boxing-27bit -n 200 --json
    """
    from vqcli.evaluation.video import frames as measures
    from vqcli.zoo import loading

    loaded = loading.load(model, device)
    if loaded.info.modality != "image":
        from vqcli.errors import UsageError

        raise UsageError(f"model {loaded.info.name} is of {loaded.info.modality}, not of frames")
    two = loaded.net.first is not None
    seen = measures.windows(recording, count, 1 if two else measures.length_of(loaded))
    if two:
        with console.progress(f"drawing {console.plural(len(seen), 'frame')}") as report:
            found = measures.latents(loaded, seen, report)
        _show_latents(found, as_json)
    else:
        _show_codec(loaded, seen, [name for name in beside.split(",") if name], as_json)


def _show_codec(model: LoadedModel, seen: Windows, beside: list[str], as_json: bool) -> None:
    from dataclasses import asdict

    from vqcli.evaluation.video import frames as measures

    with console.progress(f"measuring {console.plural(len(seen), 'frame')}") as report:
        points = measures.points(model, seen, beside, report)
    with console.progress("counting bits") as report:
        costs = measures.costs(model, seen, report)
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
        console.emit_json(asdict(found) | {"told_bits": found.told_bits})
        return
    rows: list[tuple[Any, ...]] = [
        ("bits a code of the first stage", f"{found.right:.3f}", f"{found.shuffled:.3f}"),
        ("PSNR of drawn frames, dB", f"{found.own_db:.2f}", f"{found.other_db:.2f}"),
    ]
    if found.places:
        rows += _places(found.places)
    console.emit_table(("", "its own frame", "another frame"), rows)
    console.say(
        f"{found.payload_bits} bits of codes a frame, {found.file_bytes} bytes a file; {found.frames} frames. The "
        f"right latents save {found.told_bits:.0f} bits of a frame's {found.codes} codes"
    )
    console.say(f"the first stage alone comes back at {found.first_stage_db:.2f} dB")
    if found.places:
        console.say(
            f"both boxers are found in {found.places.found_true:.1%} of true, {found.places.found_drawn:.1%} of drawn"
        )


def _places(places: Places) -> list[tuple[str, str, str]]:
    from vqcli.evaluation.video.boxing import NEAR

    return [
        ("boxers away from where they were, pixels", f"{places.distance:.1f}", f"{places.distance_other:.1f}"),
        (f"frames with both within {NEAR:g} pixels", f"{places.kept:.1%}", f"{places.kept_other:.1%}"),
    ]
