"""vq demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, Force

SETTINGS = (("photo", 2.0), ("photo", 5.0), ("photo", 9.0), ("tokens", None))


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("vq-demo"),
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Encode a photograph and a spoken sentence that ship with vq, show what they cost, and go on from a clip: the
    first thing to try.

    \b
    vq demo
    vq demo -o somewhere/
    """
    from dataclasses import asdict

    from vqcli.cli.demo_speech import speak
    from vqcli.cli.demo_video import walk
    from vqcli.codec import image as codec_image
    from vqcli.container import vqz
    from vqcli.errors import UsageError
    from vqcli.evaluation.image import baselines
    from vqcli.evaluation.image.rate_distortion import Point, measure
    from vqcli.media import drawing, image
    from vqcli.zoo import loading

    if output.exists() and not force and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{output} is there already, and not empty", "--force replaces what the demo writes, -o goes elsewhere"
        )
    photograph = Path(__file__).parent.parent / "demo" / "parrots.webp"
    original = image.read(photograph).pixels
    output.mkdir(parents=True, exist_ok=True)
    image.write(output / "original.png", original, force=True)
    points: list[Point] = []
    pictures, labels = [original], ["original"]
    models = {name: loading.load(name, device) for name, _ in SETTINGS}
    with console.progress("encoding and decoding") as report:
        for done, (name, quality) in enumerate(SETTINGS):
            stem = f"{name}-q{quality:g}" if quality else name
            encoded = codec_image.encode(original, models[name], quality=quality)
            encoded.save(output / f"{stem}.vqz", force=True)
            # from the file, as anyone would who receives it
            decoded = codec_image.decode(vqz.read(output / f"{stem}.vqz"), models[name])
            decoded.save(output / f"{stem}.png", force=True)
            points.append(measure(name, quality or 0, "parrots", original, decoded.pixels, len(encoded.data)))
            jpeg = baselines.at_bytes(original, "JPEG", len(encoded.data))
            points.append(measure("JPEG", quality or 0, "parrots", original, jpeg.pixels, jpeg.size_bytes))
            pictures.append(decoded.pixels)
            if name == "tokens":
                colours = drawing.codes_image(encoded.codes[0], encoded.header.codebook_sizes[0], scale=4)
                image.write(output / "tokens-codes.png", colours, force=True)
            own = points[-2]
            labels.append(f"{stem}: {console.size(own.size_bytes)}, {own.bits_per_pixel:.2f} bpp, {own.psnr_db:.1f} dB")
            report((done + 1) / len(SETTINGS))
    crop = (slice(40, 360), slice(180, 500))  # at full scale: five whole pictures in a row show nothing
    row = drawing.side_by_side([picture[crop] for picture in pictures], labels)
    image.write(output / "side-by-side.png", row, force=True)
    spoken = speak(output, device)
    walk(output, device)
    if as_json:
        console.emit_json([*map(asdict, points), *map(asdict, spoken)])
        return
    console.emit_table(
        ("codec", "quality", "file", "bits/pixel", "PSNR dB", "MS-SSIM"),
        [
            (
                p.codec if p.codec in models else "  JPEG at no more bytes",
                f"{p.quality:g}" if p.quality and p.codec in models else "–",
                console.size(p.size_bytes),
                f"{p.bits_per_pixel:.3f}",
                f"{p.psnr_db:.2f}",
                f"{p.ms_ssim:.4f}",
            )
            for p in points
        ],
        title=f"parrots, {original.shape[1]} x {original.shape[0]}, {console.size(original.size)} of pixels",
    )
    console.emit_table(
        ("sound", "file", "kbit/s", "log-mel correlation", "x real time"),
        [
            (
                row.name,
                console.size(row.size_bytes),
                f"{row.kbit_per_s:.2f}",
                f"{row.log_mel_correlation:.3f}" if row.log_mel_correlation is not None else "–",
                f"{row.times_real_time:.0f}",
            )
            for row in spoken
        ],
        title="a spoken sentence, one level of codes, all of them, and another voice",
    )
    console.say(
        f"Look at {output / 'side-by-side.png'} and {output / 'talk.png'}, and listen to the .wav files beside them."
    )
    console.say(
        f"In {output / 'maze.png'} and its GIFs six frames of a maze are given, and ten drawn of what happens next."
    )
