"""vq sample"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.image import Samples
    from vqcli.sampling.speech import SpeechSamples
    from vqcli.zoo.loading import LoadedModel


def sample(
    output: Output = None,
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model with a prior.", show_default="the one that has one")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="pixelcnn of pictures, frames of video, wavenet of speech, or uniform: every code alike.",
            show_default="the learned one",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--class", help="A class by name; several make rows.", show_default=False)
    ] = None,
    speakers: Annotated[
        list[str] | None, typer.Option("--speaker", help="Whose voice; several each speak.", show_default="any")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="How many, of each class or speaker.", min=1, show_default="4; 1 of speech"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Height x width in pixels: 64x96.", show_default="as the prior was trained")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of new speech.", show_default="4")] = None,
    temperature: Annotated[float, typer.Option(help="Below 1: safer and duller; 0: the most probable.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k most probable codes only.", show_default="all")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the codes that hold this share of probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: more of what sets the class or speaker apart.")] = 1.0,
    start: Annotated[
        Path | None, typer.Option("--from", help="A picture to complete, or a clip to go on from.", show_default=False)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of video to draw.", min=1, show_default="10, or one for each action")
    ] = None,
    actions: Annotated[
        str | None,
        typer.Option(help="What is done in the video: 'forward*5 left*2', or one for all.", show_default=False),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="What of the picture to keep: top, left or box (the middle).", show_default="top")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal samples.", show_default="random")] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw new pictures, video or speech from the learned prior of a model, by class, actions or speaker.

    \b
    vq sample
    vq sample --class fox --class zebra -n 8 -o animals.png
    vq sample --prior pixelcnn --class kit_fox --seed 7 --guidance 2
    vq sample --size 64x128 -n 3 -o samples/
    vq sample --class wolf -o wolf.vqz
    vq sample --from photo.png --keep left -n 6 -o completed.png
    vq sample --model speech --prior wavenet --seconds 4 --speaker p225 -o babble.wav
    vq sample --model speech --from clip.wav --seconds 6 -o continued.wav
    vq sample --model doom --from clip.mp4 --frames 10 --actions 'forward*10' -o out.gif
    vq sample --model doom --frames 16 -n 4 -o dreams.mp4
    """
    import secrets

    from vqcli.cli.sample_video import sample_video
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import audio
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling import image as generate
    from vqcli.sampling import speech as generate_speech
    from vqcli.sampling import video as generate_video
    from vqcli.zoo import loading, priors, store

    sampling = Sampling(temperature, top_k, top_p, guidance)
    chosen = seed if seed is not None else secrets.randbelow(10**6)
    if chosen < 0:
        raise UsageError(f"seed {chosen} is below 0")
    speech = bool(speakers) or seconds is not None or prior == "wavenet"
    video = frames is not None or actions is not None or prior == "frames"
    if model is not None:
        info = store.find(model)
    else:
        info = (generate_video if video else generate_speech if speech else generate).find_model()
    speech = info.modality == "audio"
    # a model that has learned video alone draws video
    video = video or (prior is None and not priors.find(info, "pixelcnn") and bool(priors.find(info, "frames")))
    if speech and video:
        raise UsageError(f"model {info.name} makes speech, and --frames and --actions are of video")
    _check_options(
        info.name,
        speech,
        {"--class": labels, "--size": size, "--keep": keep},
        {"--speaker": speakers, "--seconds": seconds},
    )
    target = output or Path("sample.gif" if video else "sample.wav" if speech else "sample.png")
    if target.suffix and target.suffix != ".vqz":  # before the work, not after it
        refuse_existing(target, force)
        if speech:
            audio.format_of(target)
    loaded = loading.load(info, device)
    if video:
        if prior not in (None, "frames"):
            raise UsageError(f"--prior {prior} draws no video", "--prior frames does")
        for option, value in {"--class": labels, "--size": size, "--keep": keep}.items():
            if value:
                raise UsageError(f"{option} is of pictures, and this draws video")
        facts = sample_video(
            loaded, target, start=start, frames=frames, actions=actions, count=count or 1, seed=chosen,
            sampling=sampling, force=force,
        )  # fmt: skip
    elif speech:
        spoken = _speak(
            loaded, prior, speakers or (), count or 1, 4.0 if seconds is None else seconds, chosen, sampling, start
        )
        written = _write_speech(spoken, loaded, target, prior or "wavenet", force)
        facts = [
            {"file": str(path), "speaker": name, "seconds": round(len(sound) / spoken.rate_hz, 2), "seed": chosen}
            for path, name, sound in zip(written, spoken.speakers, spoken.sounds, strict=True)
        ]
    else:
        drawn = _draw(loaded, prior, labels or (), count or 4, size, chosen, sampling, start, keep or "top")
        written = _write(drawn, loaded, target, len(labels or []) or 1, prior or "pixelcnn", force)
        of = f" of {', '.join(labels)}" if labels else ""
        console.say(
            f"{console.plural(len(drawn.labels), 'picture')}{of} -> {target} (model {loaded.info.name}, seed {chosen})"
        )
        facts = [
            {"file": str(path), "class": label, "seed": chosen}
            for path, label in zip(written, drawn.labels, strict=True)
        ]
    if as_json:
        console.emit_json(facts)


def _check_options(name: str, speech: bool, of_pictures: dict[str, Any], of_speech: dict[str, Any]) -> None:
    """Raise UsageError for an option that the model can make nothing of."""
    from vqcli.errors import UsageError

    for option, value in (of_pictures if speech else of_speech).items():
        if value:
            makes, other = ("speech", "pictures") if speech else ("pictures", "speech")
            raise UsageError(f"model {name} makes {makes}, and {option} is of {other}")


def _draw(
    model: LoadedModel,
    prior: str | None,
    labels: Sequence[str],
    count: int,
    size: str | None,
    seed: int,
    sampling: Sampling,
    start: Path | None,
    keep: str,
) -> Samples:
    from vqcli.media import image
    from vqcli.sampling import image as generate
    from vqcli.zoo import priors

    if prior in (None, "pixelcnn") and (known := priors.find(model.info, "pixelcnn")):
        for name in labels:
            known.label_of(name)
            if name in known.remarks:
                console.say(f"{name}: {known.remarks[name]}")
    with console.progress(f"drawing with {model.info.name}") as report:
        return generate.sample(
            model,
            prior=prior or "pixelcnn",
            labels=labels,
            count=count,
            size=_size(size),
            seed=seed,
            sampling=sampling,
            start=image.read(start).pixels if start else None,
            keep=keep,
            report=report,
        )


def _speak(
    model: LoadedModel,
    prior: str | None,
    speakers: Sequence[str],
    count: int,
    seconds: float,
    seed: int,
    sampling: Sampling,
    start: Path | None,
) -> SpeechSamples:
    from vqcli.media import audio
    from vqcli.sampling import speech as generate_speech

    clip = audio.read(start, model.net.rate_hz, mono=True) if start else None
    for note in clip.notes if clip else ():
        console.say(f"{start}: {note}")
    begun = time.perf_counter()
    with console.progress(f"speaking with {model.info.name}") as report:
        spoken = generate_speech.sample_speech(
            model,
            prior=prior or "wavenet",
            speakers=speakers,
            count=count,
            seconds=seconds,
            seed=seed,
            sampling=sampling,
            start=clip,
            report=report,
        )
    took = console.speed(spoken.sounds.size / spoken.rate_hz, time.perf_counter() - begun)
    voices = ", ".join(dict.fromkeys(name for name in spoken.speakers if name)) or "the clip's own voice"
    console.say(f"{console.plural(len(spoken.speakers), 'sample')} of {voices}, seed {seed}: {took}")
    return spoken


def _size(text: str | None) -> tuple[int, int] | None:
    from vqcli.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise UsageError(f"--size {text} is no size", "height x width in pixels, as in 64x96")
    return int(match[1]), int(match[2])


def _write(drawn: Samples, model: LoadedModel, target: Path, rows: int, prior: str, force: bool) -> list[Path]:
    """A folder gets single pictures, .vqz single code files, anything else one picture of all; the file of each."""
    from vqcli.codec import image_file
    from vqcli.container import vqz
    from vqcli.files import refuse_existing
    from vqcli.media import drawing, image

    total = len(drawn.labels)
    if target.suffix not in ("", ".vqz"):
        each = total // rows
        lines = [list(drawn.pixels[row * each : (row + 1) * each]) for row in range(rows)]
        names = [str(drawn.labels[row * each]) for row in range(rows)] if rows > 1 else None
        picture = drawn.pixels[0] if total == 1 else drawing.grid(lines, names)
        image.write(target, picture, force=force)
        return [target] * total
    if not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        paths = [
            target / f"{index + 1:03}{f'-{label}' if label else ''}.png" for index, label in enumerate(drawn.labels)
        ]
    elif total == 1:
        paths = [target]
    else:
        paths = [target.with_name(f"{target.stem}-{index + 1:03}.vqz") for index in range(total)]
    for path in paths:
        refuse_existing(path, force)
    for index, (path, label) in enumerate(zip(paths, drawn.labels, strict=True)):
        if path.suffix == ".vqz":
            facts: dict[str, Any] = {"drawn_from": prior, "seed": str(drawn.seed), "sample": str(index)}
            metadata = {**facts, **({"class": label} if label else {})}
            vqz.write(path, *image_file.pack_image(model, drawn.image(index), metadata=metadata), force=force)
        else:
            image.write(path, drawn.pixels[index], force=force)
    return paths


def _write_speech(spoken: SpeechSamples, model: LoadedModel, target: Path, prior: str, force: bool) -> list[Path]:
    """A folder, or one file for each sample: of sound, or of codes where the suffix is .vqz; the file of each."""
    from vqcli.codec import audio_file
    from vqcli.container import vqz
    from vqcli.files import refuse_existing
    from vqcli.media import audio

    names = [f"{index + 1:03}" for index in range(len(spoken.speakers))]
    if not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        voices = [f"-{name}" if name else "" for name in spoken.speakers]
        paths = [target / f"{name}{voice}.wav" for name, voice in zip(names, voices, strict=True)]
    elif len(names) == 1:
        paths = [target]
    else:
        paths = [target.with_name(f"{target.stem}-{name}{target.suffix}") for name in names]
    for path in paths:
        refuse_existing(path, force)
    for index, (path, name) in enumerate(zip(paths, spoken.speakers, strict=True)):
        if path.suffix == ".vqz":
            facts = {"drawn_from": prior, "seed": str(spoken.seed), "sample": str(index)}
            metadata = {**facts, **({"speaker": name} if name else {})}
            vqz.write(path, *audio_file.pack_audio(model, spoken.audio[index], metadata=metadata), force=force)
        else:
            audio.write(path, spoken.sounds[index : index + 1], spoken.rate_hz, force=force)
        console.say(f"-> {path}")
    return paths
