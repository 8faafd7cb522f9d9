"""Architectures by the names that the headers of models and priors have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqcli.errors import ModelError, near_matches


def families() -> dict[str, Any]:
    """Architectures by name. A function, since naming the classes imports torch."""
    from vqcli.nets.exact import ExactPrior
    from vqcli.nets.exact1d import SequencePrior
    from vqcli.nets.frames import FramePrior
    from vqcli.nets.pixelcnn import PixelCNN
    from vqcli.nets.twostage import TwoStage
    from vqcli.nets.vae2d import CategoricalVAE, ContinuousVAE
    from vqcli.nets.vqvae1d import SpeechVQVAE, WaveVQVAE
    from vqcli.nets.vqvae2d import ImageVQVAE
    from vqcli.nets.wavenet_prior import WaveNetPrior

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
