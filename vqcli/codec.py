"""Media -> codes -> .vqz and back: what `vq encode` and `vq decode` do, for callers in Python.

encoded = encode("photo.png", quality=5)      encoded.save("photo.vqz")
decoded = decode("photo.vqz")                 decoded.pixels
encoded = encode("talk.wav")                  encoded.save("talk.vqz")
decoded = decode("talk.vqz")                  decoded.samples, decoded.rate_hz
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli import vqz, zoo
from vqcli.codec_audio import DecodedAudio, EncodedAudio, decode_audio, encode_audio
from vqcli.codec_image import DecodedImage, EncodedImage, decode_image, encode_image
from vqcli.errors import UsageError
from vqcli.media import audio
from vqcli.tiles import Report, silent
from vqcli.vqz import Header, Vqz
from vqcli.zoo import LoadedModel

Source = str | Path | BinaryIO | np.ndarray
Encoded = EncodedImage | EncodedAudio
Decoded = DecodedImage | DecodedAudio


def encode(
    source: Source,
    model: str | LoadedModel | None = None,
    *,
    quality: float | None = None,
    bits_per_pixel: float | None = None,
    lossless: bool = False,
    background: str | None = None,
    rate_hz: int | None = None,
    mono: bool | None = None,
    levels: int | None = None,
    coder: str = "auto",
    metadata: dict[str, str] | None = None,
    device: str = "auto",
    report: Report = silent,
) -> Encoded:
    """Encode a picture or a recording: a path, an open file, or an array.

    Arrays are pixels uint8 [H, W] or [H, W, 1 or 3], or float samples [N] or [channels, N].

    model           None is `photo` for pictures, `speech` for sound
    levels          keep the first residual levels only, for models that have several
    coder           'auto' (the smallest), 'packed', 'histogram', 'adaptive' or 'prior'

    Of pictures:
    quality         1 .. the model's number of qualities, to a tenth; None is its middle
    bits_per_pixel  instead of a quality: the best one whose file stays within this
    lossless        the file returns every pixel; quality then only shifts bytes between codes and remainder
    background      what lies behind transparent pixels, a name or #rrggbb; None is white

    Of sound:
    rate_hz         of an array of samples; files say it themselves
    mono            mix all channels down to one (None does so too), or code each channel on its own

    Raises BadFile for what is neither, ModelError, UsageError for options that do not fit the modality or the model.
    """
    with contextlib.ExitStack() as stack:
        source = _opened(Path(source) if isinstance(source, str) else source, stack)
        known = None if model is None else (zoo.find(model) if isinstance(model, str) else model.info)
        modality = modality_of(source, known)
        if known and modality != known.modality:
            kinds = {"image": "pictures", "audio": "sound"}
            raise UsageError(
                f"model {known.name} is for {kinds.get(known.modality, known.modality)}, and this is {kinds[modality]}",
                f"--model {zoo.DEFAULTS[modality]}, or leave --model out",
            )
        loaded = model if isinstance(model, LoadedModel) else zoo.load(known or zoo.DEFAULTS[modality], device)
        if modality == "audio":
            if quality is not None or bits_per_pixel is not None or background is not None:
                raise UsageError("sound has no quality, rate or background to choose", "--levels 1 is the smallest")
            if lossless:
                raise UsageError("sound is not stored without loss", "leave --lossless out, or keep a .flac")
            return encode_audio(
                source, loaded, rate_hz=rate_hz, mono=mono is not False, levels=levels, coder=coder,
                metadata=metadata, report=report,
            )  # fmt: skip
        if mono is not None or rate_hz is not None:
            raise UsageError("a picture has neither channels of sound nor a rate", "leave --mono and --channels out")
        return encode_image(
            source, loaded, quality=quality, bits_per_pixel=bits_per_pixel, lossless=lossless, levels=levels,
            coder=coder, background=background or "white", metadata=metadata, report=report,
        )  # fmt: skip


def decode(
    source: str | Path | bytes | Vqz | Encoded,
    model: str | LoadedModel | None = None,
    *,
    levels: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    salvage: bool = False,
    device: str = "auto",
    report: Report = silent,
) -> Decoded:
    """Decode a .vqz file: a path, its bytes, or what `vqz` read of it.

    model           None finds the model the file names, by its digest; a model given must have that digest
    levels          decode the first residual levels only
    start_s, end_s  decode a part of a recording only, and read no more of the file than that takes
    salvage         decode what is whole in a damaged file; lost chunks become grey, or silence; where the remainder of
                    a picture without loss is damaged, what its codes decode to

    Raises BadFile, DamagedChunks, ModelError if the model is missing or another, UsageError.
    """
    part = start_s is not None or end_s is not None
    if isinstance(source, EncodedImage | EncodedAudio):
        source = source.data
    if isinstance(source, bytes):
        source = vqz.unpack(source, salvage=salvage or part)
    file = source if isinstance(source, Vqz) else vqz.read(Path(source), salvage or part)
    if part and file.header.modality != "audio":
        raise UsageError("only a recording has a start and an end", "leave --start and --end out")
    loaded = load_for(file.header, model, device)
    if file.header.modality == "audio":
        return decode_audio(
            file, loaded, levels=levels, start_s=start_s, end_s=end_s, salvage=salvage, report=report
        )  # fmt: skip
    return decode_image(file, loaded, levels=levels, salvage=salvage, report=report)


def load_for(header: Header, model: str | LoadedModel | None, device: str = "auto") -> LoadedModel:
    """The model that a file was made with. Raises ModelError if it is missing, or `model` is another one."""
    if model is None:
        return zoo.load(zoo.find_for_file(header.model, header.digest, header.joint), device)
    info = zoo.find(model) if isinstance(model, str) else model.info
    zoo.check_digest(info, header.model, header.digest, header.joint)
    return zoo.load(info, device) if isinstance(model, str) else model


def modality_of(source: Path | BinaryIO | np.ndarray, model: zoo.ModelInfo | None = None) -> str:
    """'audio' or 'image', by what a file begins with or is called; what tells nothing goes by the model."""
    if isinstance(source, np.ndarray):
        return model.modality if model else "audio" if source.dtype.kind == "f" else "image"
    if isinstance(source, Path):
        try:
            with source.open("rb") as stream:
                head = stream.read(64)
        except OSError:  # reading will say what is wrong
            head = b""
        if source.suffix.lower() in (*audio.SUFFIXES, ".m4a", ".aac", ".wma"):
            return "audio"
    else:
        head = source.read(64)
        source.seek(0)
    return "audio" if audio.is_sound(head) else model.modality if model else "image"


def _opened(source: Path | BinaryIO | np.ndarray, stack: contextlib.ExitStack) -> Path | BinaryIO | np.ndarray:
    """The source as it is, or if it is a pipe a copy, for it is looked at twice."""
    if isinstance(source, Path):
        if not (source.is_fifo() or source.is_char_device()):
            return source
        source = stack.enter_context(source.open("rb"))
    return source if isinstance(source, np.ndarray) or source.seekable() else audio.spooled(source, stack)
