"""Speech in another voice."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from msgspec import Meta

from vqcli.codec import audio_file, conversion, voices, windows
from vqcli.codec.codes import AudioCodes
from vqcli.errors import UsageError
from vqcli.media import audio
from vqcli.progress import ProgressCallback
from vqcli.web import views
from vqcli.web.bench import NAMED, Bench, Call, Format, View, part
from vqcli.web.files import Id, Stored
from vqcli.web.jobs import Outcome
from vqcli.zoo.loading import LoadedModel


class Convert(Call, frozen=True):
    """Give speech another voice: a recording, or a .vqz file of one. Words, melody, length and loudness stay."""

    file: Id
    to: Annotated[str, Meta(max_length=64, description="The voice: one of the model's speakers.")]
    model: Annotated[str | None, Meta(description="Of a recording; a .vqz file has its own.")] = None
    pitch: Annotated[
        Literal["target", "keep"], Meta(description="Move the melody to the voice's register, or leave it.")
    ] = "target"
    semitones: Annotated[float, Meta(ge=-24, le=24, description="By which the melody is moved besides.")] = 0.0
    levels: Annotated[int, Meta(ge=1, le=64, description="Kept: 1 has the words, more the source's sound.")] = 1
    format: Annotated[Format | None, Meta(description="Of the result: wav if none is named.")] = None

    def run(self, bench: Bench, progress: ProgressCallback) -> tuple[Outcome, View]:
        stored = bench.files.get(self.file)
        if stored.facts.medium != "audio":
            raise UsageError(f"only speech has a voice, and this is of {stored.facts.medium}", "send a recording")
        codes, model, notes = self._codes(bench, stored, part(progress, 0, 0.4))
        made = conversion.convert(codes, self.to, model, pitch=self.pitch, semitones=self.semitones, levels=self.levels)
        converted = conversion.Converted(made, voices.find(model.info, self.to), model)
        blocks = converted.blocks(part(progress, 0.4, 0.9))
        shown = views.spoken(
            bench, blocks, converted.rate_hz, self.format or "wav", self.to, [self.command(stored)], "converted"
        )
        header, payloads = audio_file.pack_audio(model, made)
        coded = views.packed(header, payloads)
        files = {"converted": shown.files["decoded"], "coded": bench.add_vqz(coded, "audio", "converted")}
        progress(1.0)
        return Outcome(files, {"model": model.info.name, "to": self.to} | shown.facts, notes), shown.parts

    def _codes(
        self, bench: Bench, stored: Stored, progress: ProgressCallback
    ) -> tuple[AudioCodes, LoadedModel, tuple[str, ...]]:
        """The codes of a recording or those in a file, their model, and what was found on reading."""
        if stored.facts.coded:
            file = bench.parsed(stored)
            model = bench.library.load_for(file.header)
            audio_file.check_audio(model, file.header)
            return audio_file.unpack_audio(model, file)[0], model, ()
        info = bench.library.find(self.model, "audio")
        voices.find(info, self.to)  # before any work
        model = bench.library.load(info)
        recording = audio.read(stored.open(), model.audio.rate_hz, mono=True, limits=bench.limits)
        return windows.encode_audio(model, recording, progress), model, recording.notes

    def command(self, stored: Stored) -> str:
        """What the command line takes for the same result."""
        words = ["vq", "convert-speaker", *(["--from-codes"] if stored.facts.coded else []), NAMED, "--to", self.to]
        words += ["--model", self.model] if self.model and not stored.facts.coded else []
        words += ["--pitch", self.pitch] if self.pitch != "target" else []
        words += ["--semitones", f"{self.semitones:g}"] if self.semitones else []
        words += ["--levels", str(self.levels)] if self.levels != 1 else []
        return shlex.join(words)
