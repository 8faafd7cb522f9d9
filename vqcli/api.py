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
import io
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

import numpy as np

from vqcli.codec import levels as file_levels
from vqcli.codec import medium
from vqcli.codec.audio import DecodedAudio, EncodedAudio
from vqcli.codec.image import DecodedImage, EncodedImage
from vqcli.codec.levels import Reduced
from vqcli.codec.video import DecodedVideo, EncodedVideo
from vqcli.container import bounds, vqz
from vqcli.container.bounds import Limits
from vqcli.container.vqz import Header, Vqz
from vqcli.deprecation import renamed_keyword
from vqcli.errors import UsageError
from vqcli.files import spooled
from vqcli.media import audio, image, video
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

Source = str | Path | BinaryIO | np.ndarray
Encoded = EncodedImage | EncodedAudio | EncodedVideo
Decoded = DecodedImage | DecodedAudio | DecodedVideo


class EncodeOptions(TypedDict, total=False):
    """What can be chosen of a file; each medium has some of it (see `encode`)."""

    quality: float | None
    bits_per_pixel: float | None
    lossless: bool
    tune: str | None
    effort: int
    background: str | None
    rate_hz: int | None
    mono: bool | None
    kbit_per_s: float | None
    size_bytes: int | None
    frames_per_s: float | None
    levels: int | None
    coder: str
    metadata: dict[str, str] | None


class DecodeOptions(TypedDict, total=False):
    """What can be chosen of a result; each medium has some of it (see `decode`)."""

    levels: int | None
    start_s: float | None
    end_s: float | None
    salvage: bool
    seed: int | None


@renamed_keyword("report", "progress")
def encode(
    source: Source,
    model: str | LoadedModel | None = None,
    *,
    device: str = "auto",
    progress: ProgressCallback = silent,
    max_pixels: int | None = None,
    max_seconds: float | None = None,
    **options: Unpack[EncodeOptions],
) -> Encoded:
    """Encode an image, a recording or a clip: a path, an open file, or an array.

    Arrays are pixels uint8 [H, W] or [H, W, 1 or 3], float samples [N] or [channels, N], or frames uint8
    [T, H, W, 1 or 3]. A folder is a clip of the images in it, an .npz an episode of `vq record`; a GIF, WebP or PNG
    of more than one frame is a clip too.

    model           None is `photo-2` for images and clips, `speech` for audio
    levels          keep the first residual levels only, for models that have several
    coder           'auto' (the smallest), 'packed', 'histogram', 'adaptive' or 'prior'
    metadata        texts by key, which the file keeps
    max_pixels      of an image or of each frame, where strangers send files; None is 2^28, of frames 2^25
    max_seconds     of a recording or clip; None is 24 hours of a recording

    Of images and clips:
    quality         1 .. the model's number of qualities, to a tenth; None is its middle
    background      what lies behind transparent pixels, a name or #rrggbb; None is white

    Of images:
    bits_per_pixel  instead of a quality: the best one whose file stays within this
    size_bytes      the same of the size of the file; so of audio
    lossless        the file returns every pixel; quality then only shifts bytes between codes and lossless residual
    tune            'ssim' (None) aims at looks, 'psnr' at squared error; of models that have both
    effort          0, or to 9: search for codes that cost less or look better, for seconds to minutes a megapixel; of
                    models such as photo-2 and tokens

    Of clips:
    frames_per_s    of a folder (None is 25), an episode or an array (10); files say it themselves

    Of audio:
    rate_hz         of an array of samples; files say it themselves
    mono            mix all channels down to one (None does so too, but for the two of a model of stereo), or code each
                    channel on its own, two together with such a model
    kbit_per_s      as many levels as stay within this rate, in place of `levels`

    Raises BadFile for what is neither, ModelError, UsageError for options that do not fit the medium or the model.
    """
    with contextlib.ExitStack() as stack:
        source = _opened(Path(source) if isinstance(source, str) else source, stack)
        known = None if model is None else (store.find(model) if isinstance(model, str) else model.info)
        modality = modality_of(source, known)
        kind = medium.of(modality)
        if known and known.modality != kind.MODEL:
            raise UsageError(
                f"model {known.name} is for {medium.of(known.modality).PLURAL}, and this is {kind.WHAT}",
                f"--model {store.DEFAULTS[modality]}, or leave --model out",
            )
        chosen = medium.own_options(modality, options, medium.parameters("encode"), f"this is {kind.WHAT}")
        loaded = model if isinstance(model, LoadedModel) else loading.load(known or store.DEFAULTS[modality], device)
        limits = Limits(max_pixels, max_seconds)
        result: Encoded = kind.encode(source, loaded, limits=limits, progress=progress, **chosen)
        return result


@renamed_keyword("report", "progress")
def decode(
    source: str | Path | bytes | Vqz | Encoded,
    model: str | LoadedModel | None = None,
    *,
    device: str = "auto",
    progress: ProgressCallback = silent,
    max_pixels: int | None = None,
    max_seconds: float | None = None,
    **options: Unpack[DecodeOptions],
) -> Decoded:
    """Decode a .vqz file: a path, its bytes, or what `vqz` read of it.

    model           None finds the model the file names, by its digest; a model given must have that digest
    levels          decode the first residual levels only
    start_s, end_s  decode a part of a recording or a clip only, and read no more of the file than that takes
    salvage         decode what is whole in a damaged file; lost chunks become grey, or silence, and a
                    chunk that lost a level decodes with those before it; where the lossless
                    residual of an image is damaged, what its codes decode to
    seed            what is sampled by models whose decoding samples, as those of two stages; None is always the same
    max_pixels      of an image or of a frame that is decoded, where strangers send files; None is 2^28, of frames 2^25
    max_seconds     of a recording or clip; None is 24 hours of a recording

    A file that declares more is refused at its header, before a model is loaded.

    Raises BadFile, DamagedChunks, ModelError if the model is missing or another, UsageError.
    """
    # what lies outside of a part may be damaged
    lenient = options.get("salvage", False) or any(options.get(name) is not None for name in ("start_s", "end_s"))
    limits = Limits(max_pixels, max_seconds)
    file = _parsed(source, lenient, limits)
    kind = medium.of(file.header.modality)
    chosen = medium.own_options(file.header.modality, options, medium.parameters("decode"), f"this is {kind.WHAT}")
    loaded = load_for(file.header, model, device)
    result: Decoded = kind.decode(file, loaded, limits=limits, progress=progress, **chosen)
    return result


def drop_levels(
    source: str | Path | bytes | Vqz | Encoded,
    *,
    levels: int | None = None,
    kbit_per_s: float | None = None,
    size_bytes: int | None = None,
    max_pixels: int | None = None,
    max_seconds: float | None = None,
) -> Reduced:
    """A .vqz file with its first levels only: a path, its bytes, or what `vqz` read of it. No model is needed.

    levels      how many to keep, or
    kbit_per_s  as many as stay within this rate, of audio, or
    size_bytes  as many as stay within this size
    max_pixels, max_seconds  as of `decode`

    Raises BadFile, UsageError for levels that the file has not.
    """
    limits = Limits(max_pixels, max_seconds)
    return file_levels.drop(_parsed(source, limits=limits), levels=levels, kbit_per_s=kbit_per_s, size_bytes=size_bytes)


def load_for(header: Header, model: str | LoadedModel | None, device: str = "auto") -> LoadedModel:
    """The model that a file was made with. Raises ModelError if it is missing, or `model` is another one."""
    if model is None:
        return loading.load(store.find_for_file(header.model, header.digest, header.joint), device)
    info = store.find(model) if isinstance(model, str) else model.info
    store.check_digest(info, header.model, header.digest, header.joint)
    return loading.load(info, device) if isinstance(model, str) else model


def modality_of(source: Path | BinaryIO | np.ndarray, model: store.ModelInfo | None = None) -> str:
    """'audio', 'video' or 'image', by what a file begins with or is called; what says nothing goes by the model.

    A folder and an .npz are clips, and so is a GIF, WebP or PNG of more than one frame.
    """
    default = model.modality if model else "image"
    if isinstance(source, np.ndarray):
        if model and source.ndim < 4:
            return default
    elif default == "audio" and not (isinstance(source, Path) and (source.is_dir() or source.suffix == ".npz")):
        return default  # those who read audio say themselves what to do with a video
    return medium.recognise(source, default)


def _parsed(
    source: str | Path | bytes | Vqz | Encoded, lenient: bool = False, limits: Limits = bounds.NO_LIMITS
) -> Vqz:
    """The .vqz file that a source is, has the bytes of, or names, if it declares no more than it may."""
    if isinstance(source, Vqz):
        bounds.check(source.header, source.lengths, limits)
        return source
    if isinstance(source, EncodedImage | EncodedAudio | EncodedVideo):
        source = source.data
    if isinstance(source, bytes):
        return vqz.unpack(source, salvage=lenient, limits=limits)
    return vqz.read(Path(source), lenient, limits)


def _opened(source: Path | BinaryIO | np.ndarray, stack: contextlib.ExitStack) -> Path | BinaryIO | np.ndarray:
    """The source as it is, or if it is a pipe a copy, for it is looked at twice."""
    if isinstance(source, Path):
        if not (source.is_fifo() or source.is_char_device()):
            return source
        source = stack.enter_context(source.open("rb"))
    if isinstance(source, np.ndarray) or source.seekable():
        return source
    head = source.read(video.HEAD)
    if not (image.is_known(head) or audio.is_audio(head) or video.kind_of(head)):
        return io.BytesIO(head)  # reading says what it is, of a stream that may never end
    return spooled(source, stack, head)
