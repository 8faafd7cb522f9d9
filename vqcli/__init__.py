"""vq: discrete neural compression and generation.

    import vqcli

    encoded = vqcli.encode("photo.png", quality=5)     # codes, and the bytes of a .vqz file
    encoded.save("photo.vqz")
    pixels = vqcli.decode("photo.vqz").pixels           # uint8 [H, W, 3]
    vqcli.encode("talk.wav").save("talk.vqz")           # audio and video as well
    waveform = vqcli.decode("talk.vqz").samples         # float32 [channels, N]
    model = vqcli.load("tokens")                        # pass it as `model` to load only once
    samples = vqcli.sample(model, labels=["fox"])       # new codes and pixels from its prior
    vqcli.convert_speaker("talk.wav", "p225").save("p225.wav")
    vqcli.train("tokens", "images/", "my-tokens", settings=["optimization.steps=1000"])

Every result has `codes`, what its files hold, and `save()`; images and clips have `n_frames` and `frames()`.

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
        Reduced,
        decode,
        drop_levels,
        encode,
    )
    from vqcli.codec.conversion import Converted, convert_speaker
    from vqcli.codec.voices import Voice
    from vqcli.errors import BadFile, DamagedChunks, ModelError, OutputError, UnknownLabel, UsageError, VqError
    from vqcli.nets.priors.autoregressive import Sampling
    from vqcli.sampling.image import Samples, sample
    from vqcli.sampling.speech import SpeechSamples, sample_speech
    from vqcli.sampling.video import VideoSamples, sample_video
    from vqcli.training.by_name import train
    from vqcli.zoo.loading import load
    from vqcli.zoo.store import list_models

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
    "Reduced",
    "Samples",
    "Sampling",
    "SpeechSamples",
    "UnknownLabel",
    "UsageError",
    "VideoSamples",
    "Voice",
    "VqError",
    "convert_speaker",
    "decode",
    "drop_levels",
    "encode",
    "list_models",
    "load",
    "sample",
    "sample_speech",
    "sample_video",
    "train",
]

__version__ = "0.2.0"

_HOMES = {
    "vqcli.api": (
        *("Decoded", "DecodedAudio", "DecodedImage", "DecodedVideo"),
        *("Encoded", "EncodedAudio", "EncodedImage", "EncodedVideo"),
        *("Reduced", "decode", "drop_levels", "encode"),
    ),
    "vqcli.errors": ("BadFile", "DamagedChunks", "ModelError", "OutputError", "UnknownLabel", "UsageError", "VqError"),
    "vqcli.sampling.image": ("Samples", "sample"),
    "vqcli.sampling.video": ("VideoSamples", "sample_video"),
    "vqcli.sampling.speech": ("SpeechSamples", "sample_speech"),
    "vqcli.codec.conversion": ("Converted", "convert_speaker"),
    "vqcli.codec.voices": ("Voice",),
    "vqcli.nets.priors.autoregressive": ("Sampling",),
    "vqcli.training.by_name": ("train",),
    "vqcli.zoo.loading": ("load",),
    "vqcli.zoo.store": ("list_models",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'vqcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
