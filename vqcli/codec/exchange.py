"""Codes as other tools read them: .npy, .npz, .safetensors and .json, and back.

Codes are uint16 (uint32 where K is above 65,536) [groups, positions], of an image [groups, rows, columns], of a clip
[groups, frames, rows, columns]. A
recording whose channels are coded apart has the groups of the first channel, then those of the second, and so on.
Flattened, as language models take them, they are one row of integers: position after position, in each all groups, and
the numbers of each group follow those of the group before.

All formats but .npy also hold what a .vqz file says besides its codes, so that it can be made again. An .ecdc is a file
of EnCodec's own program (ecdc.py), a .dac one of descript-audio-codec (dac.py).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vqcli.codec import audio_file, dac, ecdc, image_file, tiling, video_file, windows
from vqcli.codec.codes import AudioCodes, ImageCodes, VideoCodes, check_name, code_type
from vqcli.codec.tiles import Tiles
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.files import replacing
from vqcli.media import audio
from vqcli.nets.codecs.base import DecodesAlone
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

Codes = ImageCodes | AudioCodes | VideoCodes
FORMATS = ("npy", "npz", "safetensors", "json", "ecdc", "dac")
CODES, FACTS = "codes", "vq"  # in files of several parts
LARGEST_BYTES = 2**31  # of a file that is read


class _Facts(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """What a file says besides its codes.

    digest          of the model; "" if any model of that name will do
    shape           [groups, *grid] of the codes, also where they are flattened
    codebook_sizes  K of each group
    """

    model: str
    digest: str
    shape: tuple[int, ...]
    codebook_sizes: tuple[int, ...]


class ImageFacts(_Facts, frozen=True, tag="image"):
    size: tuple[int, int]
    channels: int
    quality: int
    tiles: Tiles | None = None


class AudioFacts(_Facts, frozen=True, tag="audio"):
    """`target_db`: the loudness by ITU-R BS.1770 that each coded channel is to have, where `gain_db` is not known."""

    positions_per_s: float
    rate_hz: int
    samples: int
    channels: int
    loudness_db: tuple[float, ...]
    voice: tuple[bytes, ...]
    gain_db: tuple[float, ...] = ()
    window: int = 0
    target_db: tuple[float, ...] = ()


class VideoFacts(_Facts, frozen=True, tag="video"):
    size: tuple[int, int]
    frames_per_1000s: int
    quality: int
    tiles: Tiles | None = None


Facts = ImageFacts | AudioFacts | VideoFacts


def codes_of(model: LoadedModel, file: Vqz) -> Codes:
    """The codes of a parsed file, whatever they stand for. Raises BadFile."""
    if file.header.modality == "audio":
        return audio_file.unpack_audio(model, file)[0]
    if file.header.modality == "video":
        return video_file.unpack_video(model, file)[0]
    return image_file.unpack_image(model, file)[0]


def file_of(model: LoadedModel, codes: Codes, coder: str = "auto") -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of a .vqz file of codes. Raises BadFile for what no file of the model can say."""
    check_name(model)
    if isinstance(codes, AudioCodes):
        packed = audio_file.pack_audio(model, codes, coder=coder)
        audio_file.check_audio(model, packed[0])
        return packed
    if isinstance(codes, VideoCodes):
        return video_file.pack_video(model, codes, coder=coder)
    return image_file.pack_image(model, codes, coder=coder)


def array_of(codes: Codes) -> np.ndarray:
    """[groups, *grid], the channels of a recording one after the other."""
    return codes.codes.reshape(-1, codes.codes.shape[-1]) if isinstance(codes, AudioCodes) else codes.codes


def facts_of(codes: Codes, model: LoadedModel) -> Facts:
    """What a file says besides its codes."""
    array = array_of(codes)
    coded = len(codes.codes) if isinstance(codes, AudioCodes) else 1
    common: dict[str, Any] = {
        "model": model.info.name,
        "digest": model.info.digest.hex(),
        "shape": array.shape,
        "codebook_sizes": model.net.codebook_sizes[: len(array) // coded] * coded,
    }
    if isinstance(codes, AudioCodes):
        per_s = model.audio.framing.positions_per_s(model.audio.rate_hz)
        return AudioFacts(
            positions_per_s=per_s, rate_hz=codes.rate_hz, samples=codes.samples, channels=codes.channels,
            loudness_db=codes.loudness_db, voice=codes.voice, gain_db=codes.gain_db, window=codes.window, **common,
        )  # fmt: skip
    common |= {"size": codes.size, "quality": codes.quality, "tiles": codes.tiles}
    if isinstance(codes, VideoCodes):
        return VideoFacts(frames_per_1000s=codes.frames_per_1000s, **common)
    return ImageFacts(channels=codes.channels, **common)


def flattened(array: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """int32 [positions * groups] of codes [groups, *grid]."""
    return (array.reshape(len(sizes), -1) + _offsets(sizes)[:, None]).T.astype(np.int32).ravel()


def unflattened(row: np.ndarray, sizes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The mirror of `flattened`. Raises BadFile for a number that its place cannot have."""
    if row.size != int(np.prod(shape, dtype=np.int64)) or len(sizes) != shape[0]:
        raise BadFile(f"{row.size} numbers are not codes of the shape {list(shape)}")
    return (row.reshape(-1, len(sizes)).T.astype(np.int64) - _offsets(sizes)[:, None]).reshape(shape)


def write(path: Path, codes: Codes, model: LoadedModel, *, flat: bool = False, force: bool = False) -> np.ndarray:
    """Write codes in the format that the suffix names; returns the array as it is in the file.

    Raises UsageError for another suffix.
    """
    name, facts, array = _format_of(path), facts_of(codes, model), array_of(codes)
    if flat:
        array = flattened(array, facts.codebook_sizes)
    text = msgspec.json.encode(facts).decode()
    with replacing(path, force=force) as stream:
        if name == "npy":
            np.save(stream, array, allow_pickle=False)
        elif name == "npz":
            np.savez_compressed(stream, codes=array, vq=np.array(text))
        elif name in ("ecdc", "dac"):
            stream.write(_as_ecdc(codes, model) if name == "ecdc" else _as_dac(codes, model))
        elif name == "safetensors":
            from safetensors.numpy import save

            stream.write(save({CODES: np.ascontiguousarray(array)}, {FACTS: text}))
        else:
            stream.write(json.dumps({FACTS: json.loads(text), CODES: array.tolist()}).encode())
    return array


def read(path: Path) -> tuple[np.ndarray, Facts | None]:
    """An array of integers and the facts beside it, None of .npy.

    Raises BadFile, UsageError for another suffix.
    """
    name = _format_of(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadFile(f"{path} is larger than {LARGEST_BYTES} bytes")
        if name in ("ecdc", "dac"):
            return (_of_ecdc if name == "ecdc" else _of_dac)(path.read_bytes())
        array, text = _parts(path, name)
        facts = None if text is None else msgspec.json.decode(text, type=Facts)
    except msgspec.ValidationError as error:
        raise BadFile(f"what {path} says of its codes is not sound: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, RecursionError) as error:
        raise BadFile(f"{path} holds no codes: {error}") from None
    if array.dtype.kind not in "iu" or not array.size:
        raise BadFile(f"{path} holds no codes, but {array.dtype} {list(array.shape)}")
    return array, facts


def restored(array: np.ndarray, facts: Facts | None, model: LoadedModel) -> Codes:
    """Codes of an array and its facts; without facts they stand for whole positions at the model's own rate.

    Raises BadFile for codes that the model has not, ModelError for those of another model.
    """
    net = model.net
    if facts is None:
        facts = _bare_facts(array, model)
    elif facts.digest and facts.digest != model.info.digest.hex():
        raise ModelError(f"the codes are of model {facts.model} ({facts.digest}), not of {model.info.name}")
    if array.ndim == 1 and len(facts.shape) > 1:
        array = unflattened(array, facts.codebook_sizes, facts.shape)
    coded = len(facts.voice) if isinstance(facts, AudioFacts) else 1
    groups = len(array) // max(coded, 1)
    sizes = np.array(net.codebook_sizes[:groups] * coded)
    if array.ndim < 2 or len(sizes) != len(array) or groups not in accumulate(net.level_codebooks):
        raise BadFile(f"{len(array)} groups of codes are not whole levels of model {model.info.name}")
    rows = array.reshape(len(array), -1)
    if rows.min() < 0 or (rows.max(1) >= sizes).any():
        raise BadFile(f"codes are not within the codebooks of model {model.info.name}")
    codes = array.astype(code_type(sizes.tolist()))
    if isinstance(facts, AudioFacts):
        codes = codes.reshape(coded, groups, -1)
        return _recording(codes, facts, model)
    if isinstance(facts, VideoFacts):
        return VideoCodes(codes, facts.size, facts.frames_per_1000s, facts.quality, facts.tiles)
    return ImageCodes(codes, facts.size, facts.channels, facts.quality, facts.tiles)


def model_of(facts: Facts) -> ModelInfo:
    """The model that codes are of. Raises ModelError if it is not here, BadFile for a digest that is none."""
    if not facts.model:
        raise UsageError("the file does not say of which model its codes are", "--model NAME")
    if not facts.digest:
        return store.find(facts.model)
    try:
        return store.find_for_file(facts.model, bytes.fromhex(facts.digest))
    except ValueError:
        raise BadFile(f"{facts.digest[:40]!r} is no digest of a model") from None


def _bare_facts(array: np.ndarray, model: LoadedModel) -> Facts:
    """Of codes alone. Raises UsageError if files of the model hold more than codes."""
    net = model.net
    common: dict[str, Any] = {
        "model": model.info.name,
        "digest": model.info.digest.hex(),
        "shape": array.shape,
        "codebook_sizes": (),
    }
    if model.info.modality == "audio" and array.ndim == 2:
        if net.level_db is not None or net.side_bytes:
            raise UsageError(f"files of {model.info.name} hold more than codes", "export .npz")
        return AudioFacts(
            positions_per_s=net.framing.positions_per_s(net.rate_hz), rate_hz=net.rate_hz,
            samples=array.shape[1] * net.stride, channels=1, loudness_db=(0.0,), voice=(b"",), **common,
        )  # fmt: skip
    if model.info.modality == "image" and array.ndim == 3 and not net.qualities:
        height, width = (side * net.stride for side in array.shape[1:])
        tiles = tiling.tiles_of(net, height, width)
        return ImageFacts(size=(width, height), channels=net.channels, quality=0, tiles=tiles, **common)
    raise UsageError(
        f"codes of the shape {list(array.shape)} alone do not make a file of {model.info.name}",
        "[groups, positions] or [groups, rows, columns], of a model without qualities; or export .npz",
    )


def _recording(codes: np.ndarray, facts: AudioFacts, model: LoadedModel) -> AudioCodes:
    """Codes [coded channels, groups, T] with what their facts say, and what decoding them tells."""
    if any(abs(db) > dac.MOST_DB for db in (*facts.gain_db, *facts.target_db)):
        raise BadFile(f"gains and loudness are not within {dac.MOST_DB} dB")
    framing, samples = windows.framing(model, facts.window), facts.samples
    if framing.alone:  # other programs round lengths down where they resample: there are no more samples than codes
        most = codes.shape[2] // framing.segment * framing.hop
        samples = min(samples, most * facts.rate_hz // model.audio.rate_hz)
    side: dict[str, Any] = {"gain_db": facts.gain_db, "window": facts.window}
    recording = AudioCodes(codes, facts.rate_hz, samples, facts.channels, facts.loudness_db, facts.voice, **side)
    if not facts.target_db:
        return recording
    gain_db = np.array(facts.target_db) - windows.loudness_db(model, recording)
    return replace(recording, gain_db=tuple(gain_db.tolist()))


def _as_dac(codes: Codes, model: LoadedModel) -> bytes:
    """Raises UsageError for codes of anything else than DAC."""
    if not isinstance(codes, AudioCodes) or not isinstance(model.net, DecodesAlone):
        raise UsageError("a .dac file holds sound coded by DAC", "--format npz takes any codes")
    net: Any = model.net
    each = codes.window or codes.codes.shape[2]
    made = codes.codes.shape[2] // each * net.samples_of(each, alone=bool(codes.window))
    samples = min(codes.samples, made * codes.rate_hz // net.rate_hz)  # no more, or they refuse it
    loudness_db = tuple(windows.loudness_db(model, codes).tolist())
    return dac.write(dac.DacFile(codes.codes, samples, codes.rate_hz, codes.window, loudness_db))


def _of_dac(data: bytes) -> tuple[np.ndarray, Facts]:
    file = dac.read(data)
    channels = len(file.codes)
    array = file.codes.reshape(-1, file.codes.shape[2])
    loudness_db = tuple(round(min(max(db, -100), 100), 1) for db in file.input_db)
    return array, AudioFacts(
        model="", digest="", shape=array.shape, codebook_sizes=(), positions_per_s=0, rate_hz=file.rate_hz,
        samples=file.samples, channels=channels, loudness_db=loudness_db, voice=(b"",) * channels,
        window=file.window, target_db=file.input_db,
    )  # fmt: skip


def _as_ecdc(codes: Codes, model: LoadedModel) -> bytes:
    """Raises UsageError for codes of anything else than one channel by EnCodec, or two that it codes together."""
    kind = next((kind for kind in ecdc.KINDS if kind.family == model.info.description["family"]), None)
    if not isinstance(codes, AudioCodes) or len(codes.codes) > 1 or kind is None or not _is_published(kind, model):
        models = " or ".join(kind.model for kind in ecdc.KINDS)
        raise UsageError("an .ecdc file holds one channel coded by EnCodec, or two coded together", f"--model {models}")
    samples = audio.length_at(codes.samples, codes.rate_hz, kind.rate_hz)
    return ecdc.write(ecdc.Content(kind, codes.codes[0], samples, codes.voice[0]))


def _is_published(kind: ecdc.Kind, model: LoadedModel) -> bool:
    """Whether a model has the rate and the framing that such files are known to have."""
    return (model.audio.rate_hz, model.audio.framing) == (kind.rate_hz, kind.framing)


def _of_ecdc(data: bytes) -> tuple[np.ndarray, Facts]:
    content = ecdc.read(data)
    kind, codes = content.kind, content.codes
    facts = AudioFacts(
        model=kind.model, digest="", shape=codes.shape, codebook_sizes=(2**ecdc.BITS,) * len(codes),
        positions_per_s=kind.framing.positions_per_s(kind.rate_hz), rate_hz=kind.rate_hz, samples=content.samples,
        channels=kind.channels, loudness_db=(0.0,), voice=(content.scales,),
    )  # fmt: skip
    return codes, facts


def _format_of(path: Path) -> str:
    name = path.suffix.lstrip(".").lower()
    if name not in FORMATS:
        raise UsageError(
            f"{path.name}: codes are not kept as {path.suffix or 'a file without suffix'}", " ".join(FORMATS)
        )
    return name


def _parts(path: Path, name: str) -> tuple[np.ndarray, str | bytes | None]:
    """The array and the JSON of a file."""
    if name == "npy":
        return np.load(path, allow_pickle=False), None
    if name == "npz":
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_BYTES:
                raise ValueError(f"unpacked it has more than {LARGEST_BYTES} bytes")
        with np.load(path, allow_pickle=False) as parts:
            return parts[CODES], str(parts[FACTS])
    if name == "safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as parts:
                return parts.get_tensor(CODES), (parts.metadata() or {})[FACTS]
        except SafetensorError as error:
            raise ValueError(str(error)) from None
    found = json.loads(path.read_bytes())
    if not isinstance(found, Mapping):
        raise ValueError("it is no object")
    return np.array(found[CODES]), json.dumps(found[FACTS])


def _offsets(sizes: tuple[int, ...]) -> np.ndarray:
    """The first number of each group, flattened."""
    return np.cumsum((0, *sizes[:-1]), dtype=np.int64)
