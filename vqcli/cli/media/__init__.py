"""What commands ask and say of a medium: a file each, by the name that headers have for it.

EncodeOptions    dataclass of the options of `vq encode` that the medium has
SampleOptions    dataclass of those of `vq sample`
PRIOR            name of the priors to sample from
SAMPLE           the file that `vq sample` writes where none is named
sample           sample from a model, write the files, say what they are
LOST             what is said of a part of a result that is lost
suffix()         of a decoded file that has no name of its own
line, facts      of what was encoded, for people and for machines
decoded_line     of what was decoded, both
header_facts     what a header says of the medium; needs no torch
verify           decode what was written, and say how it compares
verify_decoded   read what was decoded and written again, and say whether it is what the file has a digest of

What the medium does is in vqcli/codec, in the file of the same name.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from vqcli.container.header import TUNES, Header, tune_of


def quality_facts(header: Header) -> dict[str, Any]:
    """The quality of a file, and its tune if that is not the model's first."""
    tune, quality = tune_of(header.quality / 10)
    return {"quality": quality or None, **({"tune": tune} if tune != TUNES[0] else {})}


def codes_verified(lost: bool) -> tuple[str, dict[str, Any]]:
    """What `vq decode --verify` says of media that files have no digest of, as decoding is not exact."""
    if lost:
        return "not verified: a part is lost", {"verified": None}
    return "verified: the codes; what they decode to differs in roundings, so files have no digest of it", {
        "verified": "codes"
    }


def of(modality: str) -> Any:
    """The module of a modality."""
    return import_module(f"{__name__}.{modality}")


def names() -> list[str]:
    return sorted(name for _, name, _ in pkgutil.iter_modules(__path__))
