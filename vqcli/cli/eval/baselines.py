"""What --baselines names: usual codecs, and models of the same modality."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from vqcli.cli.options import words

if TYPE_CHECKING:
    from vqcli.zoo.loading import LoadedModel
    from vqcli.zoo.store import ModelInfo


def chosen(
    named: str | None, usual: Sequence[str], codecs: Collection[str], model: ModelInfo, device: str
) -> list[str | LoadedModel]:
    """The codecs and, loaded, the models that `named` lists with commas; `usual` codecs if it is None.

    Raises UsageError for what is neither one of `codecs` nor a model, and for a model of another modality than `model`.
    """
    from vqcli.zoo import loading

    found: list[str | LoadedModel] = []
    for name in usual if named is None else words(named):
        if name in codecs:
            found.append(name)
        elif name != model.name:
            found.append(loading.load(_other(name, codecs, model), device))
    return found


def _other(name: str, codecs: Collection[str], model: ModelInfo) -> ModelInfo:
    from vqcli.errors import ModelError, UsageError, near_matches
    from vqcli.zoo import store

    try:
        info = store.find(name)
    except ModelError:
        known = [*codecs, *(each.name for each in store.list_models() if each.modality == model.modality)]
        raise UsageError(f"no codec or model {name}", near_matches(name, known)) from None
    if info.modality != model.modality:
        raise UsageError(f"model {name} is of {info.modality}, not of {model.modality}", "leave it out of --baselines")
    return info
