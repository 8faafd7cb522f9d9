"""Media -> codes -> .vqz and back: what `vq encode` and `vq decode` do, for callers in Python.

encoded = encode("photo.png", quality=5)      encoded.save("photo.vqz")
decoded = decode("photo.vqz")                 decoded.pixels
encoded = encode("talk.wav")                  encoded.save("talk.vqz")
decoded = decode("talk.vqz")                  decoded.samples, decoded.rate_hz
encoded = encode("clip.mp4")                  encoded.save("clip.vqz")
decoded = decode("clip.vqz")                  decoded.frames(), decoded.save("clip.mp4")
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.codec.audio import DecodedAudio, EncodedAudio, decode_audio, encode_audio
from vqcli.codec.image import DecodedImage, EncodedImage, decode_image, encode_image
from vqcli.codec.video import DecodedVideo, EncodedVideo, decode_video, encode_video
from vqcli.container import vqz
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import UsageError
from vqcli.media import audio, video
from vqcli.progress import Report, silent
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

Source = str | Path | BinaryIO | np.ndarray
Encoded = EncodedImage | EncodedAudio | EncodedVideo
Decoded = DecodedImage | DecodedAudio | DecodedVideo

_KINDS = {"image": "pictures", "audio": "sound", "video": "video"}


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
    frames_per_s: float | None = None,
    levels: int | None = None,
    coder: str = "auto",
    metadata: dict[str, str] | None = None,
    device: str = "auto",
    report: Report = silent,
) -> Encoded:
    """Encode a picture, a recording or a clip: a path, an open file, or an array.

    Arrays are pixels uint8 [H, W] or [H, W, 1 or 3], float samples [N] or [channels, N], or frames uint8
    [T, H, W, 1 or 3]. A folder is a clip of the pictures in it, an .npz an episode of `vq record`; a GIF, WebP or PNG
    of more than one frame is a clip too.

    model           None is `photo` for pictures and clips, `speech` for sound
    levels          keep the first residual levels only, for models that have several
    coder           'auto' (the smallest), 'packed', 'histogram', 'adaptive' or 'prior'

    Of pictures and clips:
    quality         1 .. the model's number of qualities, to a tenth; None is its middle
    background      what lies behind transparent pixels, a name or #rrggbb; None is white

    Of pictures:
    bits_per_pixel  instead of a quality: the best one whose file stays within this
    lossless        the file returns every pixel; quality then only shifts bytes between codes and remainder

    Of clips:
    frames_per_s    of a folder (None is 25), an episode or an array (10); files say it themselves

    Of sound:
    rate_hz         of an array of samples; files say it themselves
    mono            mix all channels down to one (None does so too), or code each channel on its own

    Raises BadFile for what is neither, ModelError, UsageError for options that do not fit the modality or the model.
    """
    with contextlib.ExitStack() as stack:
        source = _opened(Path(source) if isinstance(source, str) else source, stack)
        known = None if model is None else (store.find(model) if isinstance(model, str) else model.info)
        modality = modality_of(source, known)
        if known and known.modality != ("image" if modality == "video" else modality):  # frames are pictures
            kind = _KINDS.get(known.modality, known.modality)
            raise UsageError(
                f"model {known.name} is for {kind}, and this is {_KINDS[modality]}",
                f"--model {store.DEFAULTS[modality]}, or leave --model out",
            )
        loaded = model if isinstance(model, LoadedModel) else loading.load(known or store.DEFAULTS[modality], device)
        if frames_per_s is not None and modality != "video":
            raise UsageError("only clips have frames", "leave --rate out")
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
            if modality == "video":
                raise UsageError("a clip is coded without its sound", "leave --mono and --channels out")
            raise UsageError("a picture has neither channels of sound nor a rate", "leave --mono and --channels out")
        if modality == "video":
            if lossless or bits_per_pixel is not None:
                raise UsageError(
                    "a clip is coded at a quality, not without loss or within a rate", "--quality chooses it"
                )
            return encode_video(
                source, loaded, quality=quality, levels=levels, coder=coder, frames_per_s=frames_per_s,
                background=background or "white", metadata=metadata, report=report,
            )  # fmt: skip
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
    seed: int | None = None,
    device: str = "auto",
    report: Report = silent,
) -> Decoded:
    """Decode a .vqz file: a path, its bytes, or what `vqz` read of it.

    model           None finds the model the file names, by its digest; a model given must have that digest
    levels          decode the first residual levels only
    start_s, end_s  decode a part of a recording or a clip only, and read no more of the file than that takes
    salvage         decode what is whole in a damaged file; lost chunks become grey, or silence; where the remainder of
                    a picture without loss is damaged, what its codes decode to
    seed            what is drawn by models whose decoding draws, as those of two stages; None is always the same

    Raises BadFile, DamagedChunks, ModelError if the model is missing or another, UsageError.
    """
    part = start_s is not None or end_s is not None
    if isinstance(source, EncodedImage | EncodedAudio | EncodedVideo):
        source = source.data
    if isinstance(source, bytes):
        source = vqz.unpack(source, salvage=salvage or part)
    file = source if isinstance(source, Vqz) else vqz.read(Path(source), salvage or part)
    if part and file.header.modality == "image":
        raise UsageError("only a recording has a start and an end, or a clip", "leave --start and --end out")
    loaded = load_for(file.header, model, device)
    if file.header.modality == "audio":
        if seed is not None:
            raise UsageError("sound decodes in one way only", "leave --seed out")
        return decode_audio(
            file, loaded, levels=levels, start_s=start_s, end_s=end_s, salvage=salvage, report=report
        )  # fmt: skip
    if file.header.modality == "video":
        return decode_video(
            file, loaded, levels=levels, start_s=start_s, end_s=end_s, salvage=salvage, seed=seed, report=report
        )  # fmt: skip
    return decode_image(file, loaded, levels=levels, salvage=salvage, seed=seed, report=report)


def load_for(header: Header, model: str | LoadedModel | None, device: str = "auto") -> LoadedModel:
    """The model that a file was made with. Raises ModelError if it is missing, or `model` is another one."""
    if model is None:
        return loading.load(store.find_for_file(header.model, header.digest, header.joint), device)
    info = store.find(model) if isinstance(model, str) else model.info
    store.check_digest(info, header.model, header.digest, header.joint)
    return loading.load(info, device) if isinstance(model, str) else model


def modality_of(source: Path | BinaryIO | np.ndarray, model: store.ModelInfo | None = None) -> str:
    """'audio', 'video' or 'image', by what a file begins with or is called; what tells nothing goes by the model.

    A folder and an .npz are clips, and so is a GIF, WebP or PNG of more than one frame.
    """
    if isinstance(source, np.ndarray):
        if source.ndim == 4:
            return "video"
        return model.modality if model else "audio" if source.dtype.kind == "f" else "image"
    if not isinstance(source, Path):
        return _modality_in(source, model)
    suffix = source.suffix.lower()
    if source.is_dir() or suffix == ".npz":
        return "video"
    if suffix in (*audio.SUFFIXES, ".m4a", ".aac", ".wma"):
        return "audio"
    try:
        with source.open("rb") as stream:
            return _modality_in(stream, model)
    except OSError:  # reading will say what is wrong
        return model.modality if model else "image"


def _modality_in(stream: BinaryIO, model: store.ModelInfo | None) -> str:
    """By the first bytes of a stream that is left at its beginning."""
    if not (model and model.modality == "audio") and video.is_clip(stream):
        return "video"  # those who read sound say themselves what to do with a video
    head = stream.read(64)
    stream.seek(0)
    return "audio" if audio.is_sound(head) else model.modality if model else "image"


def _opened(source: Path | BinaryIO | np.ndarray, stack: contextlib.ExitStack) -> Path | BinaryIO | np.ndarray:
    """The source as it is, or if it is a pipe a copy, for it is looked at twice."""
    if isinstance(source, Path):
        if not (source.is_fifo() or source.is_char_device()):
            return source
        source = stack.enter_context(source.open("rb"))
    return source if isinstance(source, np.ndarray) or source.seekable() else audio.spooled(source, stack)
