"""Images, recordings and clips to .vqz files."""

from __future__ import annotations

import shlex
import time
from typing import Annotated, Any, Literal

from msgspec import Meta

from vqcli import api
from vqcli.pages import images
from vqcli.progress import ProgressCallback
from vqcli.web import views
from vqcli.web.files import Id
from vqcli.web.jobs import Outcome
from vqcli.web.workspace import NAMED, Call, View, Workspace, part

OPTIONS = (
    *("quality", "bits_per_pixel", "size_bytes", "lossless", "tune", "effort", "levels", "coder"),
    *("background", "mono", "kbit_per_s"),
)
FLAGS = {"bits_per_pixel": "--bpp", "size_bytes": "--bytes", "kbit_per_s": "--kbps"}
FINEST = 0.6  # share of the time that encoding takes, where the result is compared


class Encode(Call, frozen=True):
    """Encode an image, a recording or a clip to a .vqz file."""

    file: Id
    model: Annotated[str | None, Meta(description="One of /api/models; none is the default of the medium.")] = None
    compare: Annotated[
        bool, Meta(description="Also decode it again, give the source as it was read, and figures of both.")
    ] = False
    quality: Annotated[
        Annotated[float, Meta(ge=1, le=100)] | None, Meta(description="Of images and clips: from 1 to the model's.")
    ] = None
    bits_per_pixel: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Of images, instead of a quality: the best within.")
    ] = None
    size_bytes: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Of images and recordings: the best within so many.")
    ] = None
    lossless: Annotated[bool, Meta(description="Of images: the file returns every pixel.")] = False
    tune: Annotated[Literal["ssim", "psnr"] | None, Meta(description="Of images: aim at looks or squared error.")] = (
        None
    )
    effort: Annotated[int, Meta(ge=0, le=9, description="Of images: search for better codes, for minutes.")] = 0
    levels: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Keep so many residual levels, of models that have them.")
    ] = None
    coder: Annotated[Literal["auto", "packed", "histogram", "adaptive", "prior"], Meta(description="Of the codes.")] = (
        "auto"
    )
    background: Annotated[
        Annotated[str, Meta(max_length=40)] | None, Meta(description="Behind transparent pixels: a name or #rrggbb.")
    ] = None
    mono: Annotated[bool | None, Meta(description="Of recordings: mix all channels, or code each.")] = None
    kbit_per_s: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Of recordings: as many levels as fit into this rate.")
    ] = None

    def run(self, workspace: Workspace, progress: ProgressCallback) -> tuple[Outcome, View]:
        stored = workspace.source(self.file)
        medium = stored.facts.medium
        model = workspace.library.load(workspace.library.find(self.model, medium))
        if self.compare and medium == "image":
            images.warm(model.info.name, model, model.image.channels)
        last = FINEST if self.compare else 1.0
        begun = time.perf_counter()
        encoded: Any = api.encode(
            stored.open(), model, progress=part(progress, 0, last), **workspace.allowed, **self.options
        )  # fmt: skip
        took_s = time.perf_counter() - begun
        size = len(encoded.data)
        facts: dict[str, Any] = {"model": model.info.name, "size_bytes": size, "encode_s": round(took_s, 3)}
        rate = "kbit_per_s" if medium == "audio" else "bits_per_pixel"
        facts[rate] = round(getattr(encoded, rate), 4)
        files = {"coded": workspace.add_vqz(encoded.data, medium)}
        if not self.compare:
            return Outcome(files, facts, tuple(encoded.notes)), ()
        decoded = api.decode(encoded.data, model, progress=part(progress, last, 0.95), **workspace.allowed)
        shown = views.COMPARED[medium](workspace, stored, encoded, decoded, self.commands(medium), took_s)
        progress(1.0)
        return Outcome(files | shown.files, facts | shown.facts, tuple(encoded.notes)), shown.parts

    @property
    def options(self) -> dict[str, Any]:
        """As `vqcli.api` takes them; one that is for other media is refused there."""
        given = {name: getattr(self, name) for name in OPTIONS}
        usual = {name: getattr(type(self)(file=self.file), name) for name in OPTIONS}
        return {name: value for name, value in given.items() if value != usual[name]}

    def commands(self, medium: str) -> list[str]:
        """What the command line takes for the same result."""
        words = ["vq", "encode", NAMED]
        words += ["--model", self.model] if self.model else []
        for name, value in self.options.items():
            flag = FLAGS.get(name, f"--{name}")
            if name == "mono":
                words += ["--mono" if value else "--channels"]
            else:
                words += [flag] if value is True else [flag, f"{value:g}" if isinstance(value, float) else str(value)]
        suffix = {"image": "png", "audio": "wav", "video": "mp4"}[medium]
        return [shlex.join([*words, "-o", "coded.vqz"]), f"vq decode coded.vqz -o decoded.{suffix}"]
