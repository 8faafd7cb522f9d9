""".vqz files to images, recordings and clips."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from vqcli import api
from vqcli.progress import ProgressCallback
from vqcli.web import views
from vqcli.web.files import Id
from vqcli.web.jobs import Outcome
from vqcli.web.workspace import Call, Format, View, Workspace, part, usual_format


class Decode(Call, frozen=True):
    """Decode a .vqz file."""

    file: Id
    format: Annotated[Format | None, Meta(description="Of the result: png, wav, and mp4 or webp if none is named.")] = (
        None
    )
    levels: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Decode the first residual levels only.")] = (
        None
    )
    start_s: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="Where a part of a recording or clip begins.")
    ] = None
    end_s: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Where that part ends.")] = None
    salvage: Annotated[bool, Meta(description="Decode what is whole in a damaged file.")] = False
    seed: Annotated[
        Annotated[int, Meta(ge=0, lt=2**32)] | None, Meta(description="Of models whose decoding samples.")
    ] = None

    def run(self, workspace: Workspace, progress: ProgressCallback) -> tuple[Outcome, View]:
        stored = workspace.files.get(self.file)
        salvage = self.salvage or self.start_s is not None or self.end_s is not None
        file = workspace.parsed(stored, salvage=salvage)
        medium = file.header.modality
        model = workspace.library.load_for(file.header)
        names = ("levels", "start_s", "end_s", "salvage", "seed")
        options = {name: value for name in names if (value := getattr(self, name)) not in (None, False)}
        decoded: Any = api.decode(file, model, progress=part(progress, 0, 0.9), **workspace.allowed, **options)
        shown = views.DECODED[medium](workspace, decoded, self.format or usual_format(medium), len(stored.data))
        notes = []
        if decoded.lost.any():
            notes.append(f"{decoded.lost.mean():.1%} are damaged, and grey or silent")
        if decoded.fewer.any():
            notes.append(f"{decoded.fewer.mean():.1%} with fewer levels than the rest: the others are damaged")
        facts = {"model": model.info.name, "metadata": file.header.metadata} | shown.facts
        progress(1.0)
        return Outcome(shown.files, facts, tuple(notes)), shown.parts
