"""vq: discrete neural compression and generation.

    import vqcli

    encoded = vqcli.encode("photo.png", quality=5)   # codes, and the bytes of a .vqz file
    encoded.save("photo.vqz")
    pixels = vqcli.decode("photo.vqz").pixels         # uint8 [H, W, 3]
    vqcli.encode("talk.wav").save("talk.vqz")         # sound and clips as well
    samples = vqcli.decode("talk.vqz").samples        # float32 [channels, N]
    model = vqcli.load("tokens")                      # pass it as `model` to load only once
    drawn = vqcli.sample(model, labels=["fox"])       # new codes and pixels from its prior
    vqcli.convert_speaker("talk.wav", "p225").save("p225.wav")

Names are resolved on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqcli.api import (
        Decoded,
        DecodedAudio,
        DecodedImage,
        DecodedVideo,
        Encoded,
        EncodedAudio,
        EncodedImage,
        EncodedVideo,
        decode,
        encode,
    )
    from vqcli.codec.conversion import Converted, convert_speaker
    from vqcli.errors import BadFile, DamagedChunks, ModelError, OutputError, UnknownLabel, UsageError, VqError
    from vqcli.sampling.image import Samples, sample
    from vqcli.sampling.speech import SpeechSamples, sample_speech
    from vqcli.zoo.loading import load

__all__ = [
    "BadFile",
    "Converted",
    "DamagedChunks",
    "Decoded",
    "DecodedAudio",
    "DecodedImage",
    "DecodedVideo",
    "Encoded",
    "EncodedAudio",
    "EncodedImage",
    "EncodedVideo",
    "ModelError",
    "OutputError",
    "Samples",
    "SpeechSamples",
    "UnknownLabel",
    "UsageError",
    "VqError",
    "convert_speaker",
    "decode",
    "encode",
    "load",
    "sample",
    "sample_speech",
]

__version__ = "0.1.0"

_HOMES = {
    "vqcli.api": (
        *("Decoded", "DecodedAudio", "DecodedImage", "DecodedVideo"),
        *("Encoded", "EncodedAudio", "EncodedImage", "EncodedVideo"),
        *("decode", "encode"),
    ),
    "vqcli.errors": ("BadFile", "DamagedChunks", "ModelError", "OutputError", "UnknownLabel", "UsageError", "VqError"),
    "vqcli.sampling.image": ("Samples", "sample"),
    "vqcli.sampling.speech": ("SpeechSamples", "sample_speech"),
    "vqcli.codec.conversion": ("Converted", "convert_speaker"),
    "vqcli.zoo.loading": ("load",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'vqcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
