"""Architectures by the names that the headers of models and priors have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqcli.errors import ModelError, near_matches


def families() -> dict[str, Any]:
    """Architectures by name. A function, since naming the classes imports torch."""
    from vqcli.nets.codecs.speech import SpeechVQVAE
    from vqcli.nets.codecs.twostage2d import TwoStage
    from vqcli.nets.codecs.vae2d import ContinuousVAE
    from vqcli.nets.codecs.vimco2d import CategoricalVAE
    from vqcli.nets.codecs.vqvae1d import WaveVQVAE
    from vqcli.nets.codecs.vqvae2d import ImageVQVAE
    from vqcli.nets.priors.exact import ExactPrior
    from vqcli.nets.priors.exact1d import SequencePrior
    from vqcli.nets.priors.frames import FramePrior
    from vqcli.nets.priors.pixelcnn import PixelCNN
    from vqcli.nets.priors.wavenet import WaveNetPrior

    return {
        "vqvae2d": ImageVQVAE,
        "twostage2d": TwoStage,
        "vae2d": ContinuousVAE,
        "vimco2d": CategoricalVAE,
        "vqvae1d": WaveVQVAE,
        "speech": SpeechVQVAE,
        "pixelcnn": PixelCNN,
        "frames": FramePrior,
        "wavenet": WaveNetPrior,
        "exact": ExactPrior,
        "exact1d": SequencePrior,
    }


def build(family: str, arguments: Mapping[str, Any]) -> Any:
    """A net with fresh weights. Raises ModelError for an unknown family or arguments that do not fit it."""
    known = families()
    if not isinstance(family, str) or family not in known:
        raise ModelError(f"no family {family}", near_matches(str(family), known))
    try:
        return known[family](**arguments)
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"these arguments do not make a {family}: {error}") from None
