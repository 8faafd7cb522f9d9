"""vq eval video"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Baselines, Minutes, Model, Plot, Running, Seed, command, words

if TYPE_CHECKING:
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True)
class What:
    """What is sampled and stored."""

    count: Annotated[
        int, typer.Option("--count", "-n", help="Clips to sample for each action; 0 for none.", min=0, max=500)
    ] = 20
    length: Annotated[int, typer.Option("--frames", help="Frames after those given.", min=1, max=100)] = 10
    clips: Annotated[int, typer.Option(help="Clips of 64 frames to store beside H.264; 0 for none.", min=0)] = 4
    baselines: Baselines = None


Recording = Annotated[Path, typer.Argument(help="A folder that vq record made.", show_default=False)]


@command
def video(
    recording: Recording,
    model: Model = None,
    what: What = What(),
    temperature: Annotated[float, typer.Option(help="Below 1: safer and duller.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: more of what sets the action apart.")] = 1.0,
    minutes: Minutes = 3.0,
    seed: Seed = 0,
    plot: Plot = None,
    running: Running = RUNNING,
) -> None:
    """How often a small net names the action of a sampled transition, how far actions part the futures, bytes of clips.

    The net learns from the training episodes of the recording, after they went through the model. After 6 frames
    of held-out clips 10 more are sampled: given one action throughout, each in turn; given what was really done; given
    nothing.

    Then held-out clips are stored as codes, and at no more bytes by H.264 (libx264, preset slower, without container)
    and as single images. H.264 needs an extra: pip install 'vqcli[video]'. With -n 0 this is all, and a model needs
    no prior over video.

    \b
    vq eval video doom/ --model doom
    vq eval video doom/ --model doom -n 5 --clips 0 --plot futures.webp
    vq eval video boxing/ --model boxing -n 0
    """
    from vqcli.errors import UsageError
    from vqcli.evaluation.video import actions as measures
    from vqcli.evaluation.video import frames
    from vqcli.files import refuse_existing
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.video import find_model
    from vqcli.zoo import loading

    codecs = measures.USUAL if what.baselines is None else words(what.baselines)
    if what.clips:
        measures.check_codecs(codecs)
    if plot:
        refuse_existing(plot, running.force)
    if not what.count and (plot or not what.clips):
        raise UsageError("with -n 0 no clip is sampled", "leave --plot out, and store some --clips")
    loaded = loading.load(model if model is not None else find_model(), running.device)
    # what does not fit together shows before the classifier learns
    stored = frames.load_windows(recording, what.clips, measures.CODED) if what.clips else None
    sampled = {}
    if what.count:
        sampled = _futures(
            loaded, recording, what, Sampling(temperature, guidance=guidance), minutes, seed or 0, plot, running
        )
    points = []
    if stored is not None:
        with console.progress("storing", len(stored), "clip") as progress:
            points = measures.clip_points(loaded, stored, codecs, progress)
    if running.as_json:
        console.emit_json({"model": loaded.info.name, **sampled, "clips": [asdict(point) for point in points]})
    elif points:
        console.emit_table(
            ("codec", "frames", "bytes a frame", "PSNR dB"),
            [
                (point.codec, f"{point.frames:,}", f"{point.bytes_per_frame:.1f}", f"{point.psnr_db:.2f}")
                for point in points
            ],
        )


def _futures(
    model: LoadedModel,
    recording: Path,
    what: What,
    sampling: Sampling,
    minutes: float,
    seed: int,
    plot: Path | None,
    running: Running,
) -> dict[str, Any]:
    """Sample clips and have their actions named; say it unless it becomes JSON, and return it."""
    from vqcli.evaluation.video import actions as measures
    from vqcli.media import image

    info = measures.prior_of(model)
    with console.progress(f"sampling {what.count} clips, each in {2 * len(info.classes) + 2} ways") as progress:
        drawn = measures.sample(
            model, recording, what.count, length=what.length, sampling=sampling, seed=seed, progress=progress
        )
    if plot:
        shown = [name for name in ("forward", "left", "right") if name in drawn.actions] or drawn.actions[:3]
        image.write(plot, measures.sample_grid(drawn, measures.STARTS, shown), force=running.force)
        console.say(f"what was given, a gap, what was sampled: {', '.join(shown)} from each start -> {plot}")
    with console.progress(f"learning {len(info.classes)} actions") as progress:
        judge = measures.train(model, recording, minutes=minutes, seed=seed, progress=progress)
    with console.progress("naming actions") as progress:
        rates = measures.accuracies(judge, model, recording, drawn, progress)
    parted, chance = measures.futures(drawn), 1 / len(judge.actions)
    if not running.as_json:
        rows = [(name, f"{rate.transitions:,}", f"{rate.share:.1%}") for name, rate in rates.items()]
        asked = rates[measures.CONDITIONED].by_action
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
