"""vq sample"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console, media, pictures
from vqcli.cli.media import audio, image, video
from vqcli.cli.options import DRAWS, RUNNING, Count, Draws, Output, Request, Running, Seed, command, spelled
from vqcli.cli.pictures import Shown

if TYPE_CHECKING:
    from vqcli.zoo.store import ModelInfo

SAMPLERS = {"image": "vqcli.sampling.image", "audio": "vqcli.sampling.speech", "video": "vqcli.sampling.video"}


@dataclass(frozen=True)
class Amount:
    """How many of which, and whether they are shown."""

    count: Count = None
    seed: Seed = None
    show: Shown = True


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Name or folder of a model with a prior.",
        show_default="the one that has one",
        autocompletion=complete.models,
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        help="pixelcnn of images, frames of video, wavenet of speech, or uniform: every code alike.",
        show_default="the learned one",
        autocompletion=complete.among("pixelcnn", "frames", "wavenet", "uniform"),
    ),
]
Start = Annotated[
    Path | None, typer.Option("--from", help="An image to complete, or a clip to go on from.", show_default=False)
]


@command
def sample(
    output: Output = None,
    model: Model = None,
    prior: Prior = None,
    images: image.SampleOptions = image.SampleOptions(),
    speech: audio.SampleOptions = audio.SampleOptions(),
    clips: video.SampleOptions = video.SampleOptions(),
    amount: Amount = Amount(),
    draws: Draws = DRAWS,
    start: Start = None,
    running: Running = RUNNING,
) -> None:
    """Sample new images, video or speech from the learned prior of a model, by class, actions or speaker.

    \b
    vq sample --class fox
    vq sample --class fox --class zebra -n 8 -o animals.png
    vq sample --prior pixelcnn --class kit_fox --seed 7
    vq sample --width 128 --height 64 -n 3 -o samples/
    vq sample --class wolf -o wolf.vqz
    vq sample --from photo.png --keep left -n 6 -o completed.png
    vq sample --model speech --prior wavenet --seconds 4 --speaker p225 -o babble.wav
    vq sample --model speech --from clip.wav --seconds 6 -o continued.wav
    vq sample --model doom --from clip.mp4 --frames 10 --actions 'forward*10' -o out.gif
    vq sample --model doom --frames 16 -n 4 -o dreams.mp4
    """
    import secrets

    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.zoo import loading, priors

    number = amount.seed if amount.seed is not None else secrets.randbelow(10**6)
    if number < 0:
        raise UsageError(f"seed {number} is below 0")
    given: dict[str, Any] = {"image": images, "audio": speech, "video": clips}
    info, name = _chosen(model, prior, given)
    medium = media.of(name)
    _refuse_others(name, given, f"model {info.name} makes {medium.PLURAL}")
    target = output or medium.SAMPLE
    if target.suffix not in ("", ".vqz") and not target.is_dir():  # before the work, not after it
        refuse_existing(target, running.force)
        medium.check_target(target)
    learned = priors.find(info, medium.PRIOR) if prior in (None, medium.PRIOR) else None
    sampling = priors.sampling(learned, **asdict(draws))
    request = Request(prior, amount.count, number, sampling, start, running.force)
    facts = medium.sample(loading.load(info, running.device), target, given[name], request)
    if amount.show:
        pictures.preview(Path(each["file"]) for each in facts)
    if running.as_json:
        console.emit_json(facts)


def _refuse_others(name: str, given: dict[str, Any], here: str) -> None:
    """Raise UsageError for an option that is set and that the medium of that name does not have."""
    from vqcli.codec.medium import own_options

    asked = {field: value for options in given.values() for field, value in asdict(options).items()}
    with spelled(*map(type, given.values())):
        own_options(name, asked, {other: asdict(type(options)()) for other, options in given.items()}, here)


def _chosen(model: str | None, prior: str | None, given: dict[str, Any]) -> tuple[ModelInfo, str]:
    """The model, and the medium that it is to make: by the options that are set, the prior, what the model has."""
    from vqcli.zoo import priors, store

    asked = [name for name, options in given.items() if options != type(options)() or prior == media.of(name).PRIOR]
    wanted = asked[-1] if asked else "image"
    info = store.find(model) if model is not None else import_module(SAMPLERS[wanted]).find_model()
    if info.modality != "image":
        return info, info.modality
    # a model that has learned video alone makes video
    alone = prior is None and not priors.find(info, image.PRIOR) and bool(priors.find(info, video.PRIOR))
    return info, "video" if alone or wanted == "video" else "image"
