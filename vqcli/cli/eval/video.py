"""vq eval video"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, Force

if TYPE_CHECKING:
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.zoo.loading import LoadedModel


def video(
    recording: Annotated[Path, typer.Argument(help="A folder that vq record made.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(help="Name or folder of a model with a prior over video.", show_default="the one that has one"),
    ] = None,
    count: Annotated[int, typer.Option("-n", help="Clips to draw for each action; 0 for none.", min=0, max=500)] = 20,
    length: Annotated[int, typer.Option("--frames", help="Frames to draw after those given.", min=1, max=100)] = 10,
    temperature: Annotated[float, typer.Option(help="Below 1: safer and duller.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: more of what sets the action apart.")] = 1.0,
    minutes: Annotated[float, typer.Option(help="How long the classifier may learn, at most.", min=0.01)] = 3.0,
    seed: Annotated[int, typer.Option(help="Of the clips drawn, and of the classifier.", min=0)] = 0,
    clips: Annotated[int, typer.Option(help="Clips of 64 frames to store beside H.264; 0 for none.", min=0)] = 4,
    beside: Annotated[str, typer.Option(help="Codecs for these clips, with commas; empty for none.")] = "H.264,WebP",
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw what follows three starts, by action, to this picture.", show_default=False),
    ] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How often a small net names the action of a drawn transition, how far actions part the futures, bytes of clips.

    The net learns from the training episodes of the recording, after they went through the model. After 6 frames
    of held-out clips 10 more are drawn: told one action throughout, each in turn; told what was really done; told
    nothing.

    Then held-out clips are stored as codes, and at no more bytes by H.264 (libx264, preset slower, without container)
    and as single pictures. H.264 needs an extra: pip install 'vqcli[video]'. With -n 0 this is all, and a model needs
    no prior over video.

    \b
    vq eval video doom/ --model doom
    vq eval video doom/ --model doom -n 5 --clips 0 --plot futures.webp
    vq eval video boxing/ --model boxing -n 0
    """
    from dataclasses import asdict

    from vqcli.errors import UsageError
    from vqcli.evaluation.video import actions as measures
    from vqcli.evaluation.video import frames
    from vqcli.files import refuse_existing
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.video import find_model
    from vqcli.zoo import loading

    sampling = Sampling(temperature, guidance=guidance)
    codecs = [name for name in beside.split(",") if name]
    if clips:
        measures.check_codecs(codecs)
    if plot:
        refuse_existing(plot, force)
    if not count and (plot or not clips):
        raise UsageError("with -n 0 no clip is drawn", "leave --plot out, and store some --clips")
    loaded = loading.load(model if model is not None else find_model(), device)
    # what does not fit together shows before the classifier learns
    stored = frames.windows(recording, clips, measures.STORED) if clips else None
    drawn = {}
    if count:
        drawn = _drawn(loaded, recording, count, length, sampling, minutes, seed, plot, force, as_json)
    points = []
    if stored is not None:
        with console.progress(f"storing {console.plural(len(stored), 'clip')}") as report:
            points = measures.clip_points(loaded, stored, codecs, report)
    if as_json:
        console.emit_json({"model": loaded.info.name, **drawn, "clips": [asdict(point) for point in points]})
    elif points:
        console.emit_table(
            ("codec", "frames", "bytes a frame", "PSNR dB"),
            [
                (point.codec, f"{point.frames:,}", f"{point.bytes_per_frame:.1f}", f"{point.psnr_db:.2f}")
                for point in points
            ],
        )


def _drawn(
    model: LoadedModel,
    recording: Path,
    count: int,
    length: int,
    sampling: Sampling,
    minutes: float,
    seed: int,
    plot: Path | None,
    force: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Draw clips and have their actions named; say it unless it becomes JSON, and return it."""
    from dataclasses import asdict

    from vqcli.evaluation.video import actions as measures
    from vqcli.media import image

    info = measures.prior_of(model)
    with console.progress(f"drawing {count} clips, each in {2 * len(info.classes) + 2} ways") as report:
        drawn = measures.draw(model, recording, count, length=length, sampling=sampling, seed=seed, report=report)
    if plot:
        shown = [name for name in ("forward", "left", "right") if name in drawn.actions] or drawn.actions[:3]
        image.write(plot, measures.picture(drawn, measures.STARTS, shown), force=force)
        console.say(f"what was given, a gap, what was drawn: {', '.join(shown)} from each start -> {plot}")
    with console.progress(f"learning {len(info.classes)} actions") as report:
        judge = measures.learn(model, recording, minutes=minutes, seed=seed, report=report)
    with console.progress("naming actions") as report:
        rates = measures.rates(judge, model, recording, drawn, report)
    parted, chance = measures.futures(drawn), 1 / len(judge.actions)
    if not as_json:
        rows = [(name, f"{rate.transitions:,}", f"{rate.share:.1%}") for name, rate in rates.items()]
        asked = rates[measures.ASKED].by_action
        rows += [(f"    {name}", f"{number:,}", f"{share:.1%}") for name, (share, number) in asked.items()]
        console.emit_table(("transitions", "number", "named right"), [*rows, ("chance", "–", f"{chance:.1%}")])
        console.say(
            f"classifier: {judge.weights / 1e6:.2f} M weights, {judge.passes:.1f} passes over {judge.transitions:,} "
            f"transitions as {model.info.name} gives them back"
        )
        console.say(
            f"mean squared difference of futures from one start: {parted.by_actions:.0f} by other actions, "
            f"{parted.by_seeds:.0f} by other random numbers alone"
        )
    return {
        "sampling": asdict(sampling),
        "seed": seed,
        "classifier": {
            "transitions": judge.transitions, "passes": round(judge.passes, 1), "weights": judge.weights,
        },
        "chance": chance,
        "rates": {name: asdict(rate) for name, rate in rates.items()},
        "futures": asdict(parted),
    }  # fmt: skip
