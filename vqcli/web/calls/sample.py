"""New images, speech and clips from priors."""

from __future__ import annotations

import secrets
import shlex
from typing import Annotated, Any, Literal

from msgspec import Meta

from vqcli.codec import audio_file, image_file
from vqcli.container import vqz
from vqcli.errors import UsageError
from vqcli.media import image
from vqcli.progress import ProgressCallback
from vqcli.sampling.image import sample as sample_images
from vqcli.sampling.image import size_of
from vqcli.sampling.speech import sample_speech
from vqcli.sampling.video import sample_video
from vqcli.web import views
from vqcli.web.files import Id
from vqcli.web.jobs import Outcome
from vqcli.web.library import PRIORS
from vqcli.web.workspace import Call, View, Workspace, part
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

MOST = 32  # samples of a call
Name = Annotated[str, Meta(max_length=80)]
Names = Annotated[tuple[Name, ...], Meta(max_length=16)]


class Sample(Call, frozen=True):
    """Sample new images, speech or clips from the learned prior of a model."""

    medium: Literal["image", "audio", "video"] = "image"
    model: Annotated[str | None, Meta(description="One that /api/models says has such a prior.")] = None
    classes: Annotated[Names, Meta(description="Of images: by name; `count` of each, none is any.")] = ()
    speakers: Annotated[Names, Meta(description="Of speech: whose voices; `count` of each, none is any.")] = ()
    actions: Annotated[
        Annotated[tuple[Name, ...], Meta(max_length=64)],
        Meta(description="Of clips: one for all frames, or one for each."),
    ] = ()
    count: Annotated[int, Meta(ge=1, le=16)] = 4
    seed: Annotated[Annotated[int, Meta(ge=0, lt=2**31)] | None, Meta(description="Equal seeds, equal results.")] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None, Meta(description="Below 1: safer and duller. None: the prior's.")
    ] = None
    top_k: Annotated[int, Meta(ge=0, description="Sample from the k most probable codes only; 0: from all.")] = 0
    top_p: Annotated[float, Meta(gt=0, le=1, description="From the codes that hold this share of probability.")] = 1.0
    guidance: Annotated[
        Annotated[float, Meta(ge=0, le=20)] | None, Meta(description="Above 1: more of what sets the class apart.")
    ] = None
    width: Annotated[Annotated[int, Meta(ge=1, le=512)] | None, Meta(description="Of images, in pixels.")] = None
    height: Annotated[Annotated[int, Meta(ge=1, le=512)] | None, Meta(description="Of images, in pixels.")] = None
    start: Annotated[Id | None, Meta(description="A file of an image to complete.")] = None
    keep: Annotated[Literal["top", "left", "box"], Meta(description="What of that image is kept.")] = "top"
    seconds: Annotated[float, Meta(gt=0, le=30, description="Of speech.")] = 4.0
    frames: Annotated[Annotated[int, Meta(ge=1, le=64)] | None, Meta(description="Of clips.")] = None

    def run(self, workspace: Workspace, progress: ProgressCallback) -> tuple[Outcome, View]:
        if self.count * max(1, len(self.classes), len(self.speakers)) > MOST:
            raise UsageError(f"more than {MOST} samples at once", "ask for fewer of each")
        self._check()
        info = workspace.library.sampler(self.model, self.medium)
        learned = priors.find(info, PRIORS[self.medium])
        names = ("temperature", "top_k", "top_p", "guidance")
        sampling = priors.sampling(learned, **{name: getattr(self, name) for name in names})
        seed = secrets.randbelow(10**6) if self.seed is None else self.seed
        how = {"sampling": sampling, "seed": seed, "count": self.count, "progress": part(progress, 0, 0.9)}
        model = workspace.library.load(info)
        make = {"image": self._images, "audio": self._speech, "video": self._clips}[self.medium]
        shown = make(workspace, model, [self.command(seed)], how)
        remarks = learned.remarks if learned else {}
        notes = tuple(f"{name}: {remarks[name]}" for name in self.classes if name in remarks)
        progress(1.0)
        return Outcome(shown.files, {"model": info.name, "seed": seed} | shown.facts, notes), shown.parts

    def _check(self) -> None:
        """Raise UsageError for a field that only other media have."""
        of = {"classes": "image", "width": "image", "height": "image", "start": "image"}
        of |= {"speakers": "audio", "actions": "video", "frames": "video"}
        for name, medium in of.items():
            if getattr(self, name) and medium != self.medium:
                raise UsageError(f"{name} is for {medium}, and this is {self.medium}", f"leave {name} out")

    def _images(
        self, workspace: Workspace, model: LoadedModel, commands: list[str], how: dict[str, Any]
    ) -> views.Shown:
        size = None
        if self.width or self.height:
            height, width = size_of(priors.find(model.info, PRIORS["image"]))
            size = self.height or height, self.width or width
        start = None
        if self.start:
            read = image.read(workspace.source(self.start).open(), max_pixels=views.most_pixels(workspace))
            start = read.pixels
        made = sample_images(model, labels=self.classes, size=size, start=start, keep=self.keep, **how)
        coded = [vqz.pack(*image_file.pack_image(model, made.image(n))) for n in range(len(made.pixels))]
        return views.sampled_images(workspace, made, coded, commands)

    def _speech(
        self, workspace: Workspace, model: LoadedModel, commands: list[str], how: dict[str, Any]
    ) -> views.Shown:
        made = sample_speech(model, speakers=self.speakers, seconds=self.seconds, **how)
        coded = [vqz.pack(*audio_file.pack_audio(model, each)) for each in made.audio]
        return views.sampled_speech(workspace, made, coded, commands)

    def _clips(self, workspace: Workspace, model: LoadedModel, commands: list[str], how: dict[str, Any]) -> views.Shown:
        made = sample_video(model, frames=self.frames, actions=self.actions, **how)
        return views.sampled_clips(workspace, model, made, commands)

    def command(self, seed: int) -> str:
        """What the command line takes for the same result."""
        words = ["vq", "sample", *(["--model", self.model] if self.model else [])]
        if self.medium != "image":
            words += ["--prior", PRIORS[self.medium]]
        for name in self.classes:
            words += ["--class", name]
        for name in self.speakers:
            words += ["--speaker", name]
        words += ["--actions", " ".join(self.actions)] if self.actions else []
        words += ["-n", str(self.count), "--seed", str(seed)]
        usual = Sample()
        for name in ("temperature", "top_k", "top_p", "guidance", "width", "height", "seconds", "frames"):
            value = getattr(self, name)
            if value is not None and value != getattr(usual, name):
                words += [f"--{name.replace('_', '-')}", f"{value:g}"]
        return shlex.join(words)
