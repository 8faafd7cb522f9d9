"""vq info"""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console, media
from vqcli.cli.options import AsJson

if TYPE_CHECKING:
    from vqcli.container.vqz import Header
    from vqcli.zoo.store import ModelInfo


def info(
    what: Annotated[list[str], typer.Argument(help=".vqz files, or names or folders of models.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what .vqz files and models say about themselves.

    \b
    vq info photo.vqz
    vq info talk.vqz clip.vqz
    vq info tokens --json
    """
    from vqcli.errors import VqError

    if len(what) == 1:
        show(facts_of(what[0]), as_json)
        return
    rows, failed = [], 0
    for number, each in enumerate(what):
        try:
            rows.append(facts_of(each))
        except VqError as error:
            console.complain(error)
            failed += 1
            continue
        if not as_json:
            if number > failed:
                console.emit("")
            show(rows[-1], as_json)
    if as_json:
        console.emit_json(rows)
    if failed:
        raise typer.Exit(3)


def facts_of(what: str) -> dict[str, Any]:
    """Of a .vqz file or a model, by name."""
    from vqcli.container import vqz
    from vqcli.zoo import store

    path = Path(what)
    if path.is_file() or path.suffix == ".vqz":
        return file_facts(path, *vqz.read_header(path))
    return model_facts(store.find(what))


def show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.emit_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        console.emit(f"{_text(name).replace('_', ' '):{width}}  {_text(value)}")


def file_facts(path: Path, header: Header, lengths: tuple[int, ...]) -> dict[str, Any]:
    """What the header says, and what follows from it."""
    from vqcli.entropy import coders
    from vqcli.entropy.coders import packed

    size = path.stat().st_size
    facts: dict[str, Any] = {
        "file": str(path),
        "format_version": header.version,
        "modality": header.modality,
        "size_bytes": size,
        **(_residual_facts(header, lengths) if header.residual else {}),
        **media.of(header.modality).header_facts(header, size, lengths),
        "overhead_bytes": size - sum(lengths),
        "packed_bytes": packed.size_bytes((header.groups, *header.grid), header.codebook_sizes),
        "model": header.model,
        "model_digest": header.digest.hex(),
        **media.quality_facts(header),
        "coder": coders.names().get(header.coder, f"unknown ({header.coder})"),
        **({"prior_digest": header.prior.hex()} if header.prior else {}),
        **({"digest_of": "model and entropy model together"} if header.joint else {}),
        "grid": list(header.grid),
        "groups": header.groups,
        "codebooks": _codebooks(header),
        "levels": header.levels,
        "chunks": len(lengths),
        "codes_crc32": [f"{crc:08x}" for crc in header.codes_crcs],
    }
    return facts | ({"metadata": header.metadata} if header.metadata else {})


def _residual_facts(header: Header, lengths: tuple[int, ...]) -> dict[str, Any]:
    from vqcli.container.header import RESIDUAL_CODERS

    assert header.residual
    codes = header.records - header.chunk_count
    return {
        "lossless": True,
        "codes_bytes": sum(lengths[:codes]),
        "remainder_bytes": sum(lengths[codes:]),
        "remainder_coder": RESIDUAL_CODERS.get(header.residual.coder, f"unknown ({header.residual.coder})"),
        "pixels_crc32": f"{header.residual.pixels_crc:08x}",
    }


def _codebooks(header: Header) -> str:
    """Groups by codebook size; by name too if their model is there and names them (`groups` in its description)."""
    from vqcli.errors import ModelError
    from vqcli.zoo import store

    kinds = [f"K = {K}" for K in header.codebook_sizes]
    named = None
    with suppress(ModelError):  # the file says enough without it
        named = store.find_for_file(header.model, header.digest, header.joint).description.get("groups")
    channels = header.metadata.get("loudness_db", "").count(",") + 1  # that are coded
    if isinstance(named, list) and len(named) * channels >= header.groups:
        parts = [header.groups_of(level) for level in range(header.levels)]
        spans = [range(part.start // channels, part.stop // channels) for part in parts]  # of one channel
        order = [group for span in spans for _ in range(channels) for group in span]
        kinds = [f"{named[at]} ({kind})" for at, kind in zip(order, kinds, strict=False)]
    return ", ".join(f"{kinds.count(kind)} of {kind}" for kind in dict.fromkeys(kinds))


def model_facts(model: ModelInfo) -> dict[str, Any]:
    from vqcli.zoo import priors

    described = _described(model.description)
    beside = [
        {"prior": prior.family, "digest": prior.digest.hex(), **_described(prior.description)}
        for prior in priors.beside(model)
    ]
    return {
        "model": model.name,
        "folder": str(model.folder),
        "digest": model.digest.hex(),
        "size_bytes": model.path.stat().st_size,
        **described,
        **({"priors": beside} if beside else {}),
    }


def _described(description: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key not in ("format", "recipe")}


def _text(value: Any) -> str:
    """A value for people; what came from a file cannot steer the terminal."""
    if isinstance(value, dict):
        return ", ".join(f"{_text(key)} {_inner(part)}" for key, part in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(f"\n    {_text(part)}" for part in value)
    if isinstance(value, list):
        runs = ((part, len(list(run))) for part, run in groupby(value))
        return ", ".join(
            f"{_text(part)} ({count} times)" if count > 2 else ", ".join([_text(part)] * count) for part, count in runs
        )
    text = "–" if value is None else str(value)
    return console.one_line(text)


def _inner(value: Any) -> str:
    return f"({_text(value)})" if isinstance(value, dict) else _text(value)
