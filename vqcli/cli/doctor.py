"""vq doctor"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson

SECONDS = 5.0  # of the speed test


def doctor(
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Measure for 5 seconds how fast vq is.")] = True,
    as_json: AsJson = False,
) -> None:
    """Say what this installation is and can do: the first thing to put into a report of a fault.

    Versions, processor, devices, folders, models, extras and a short test of speed. It names neither the host nor the
    user. The exit status is 1 if a model cannot be read or a folder cannot be written.

    \b
    vq doctor
    vq doctor --no-speed --json
    """
    from dataclasses import asdict

    from vqcli.evaluation import installation

    machine = installation.machine() | installation.threads()
    units, devices = installation.processor_units(), installation.devices()
    packages, extras = installation.packages(), installation.extras()
    folders, models = installation.folders(), installation.models()
    speeds = []
    if speed:
        with console.progress("measuring speed") as progress:
            speeds = installation.speeds(SECONDS, progress)
    if as_json:
        parts: dict[str, list[Any]] = {"extras": extras, "folders": folders, "models": models, "speeds": speeds}
        listed = {name: [asdict(each) for each in part] for name, part in parts.items()}
        console.emit_json({"machine": machine | {"units": units, "devices": devices}, "packages": packages} | listed)
    else:
        rows = [(name.replace("_gb", ", GB").replace("_", " "), str(value)) for name, value in machine.items()]
        console.emit_table(
            ("machine", ""), [*rows, ("units", " ".join(units) or "none known"), ("devices", ", ".join(devices))]
        )
        console.emit_table(("package", "version"), list(packages.items()))
        console.emit_table(
            ("extra", "installed", "what for"),
            [(each.name, _state(each.missing), each.purpose) for each in extras],
        )
        console.emit_table(
            ("folder", "can be written", "of"), [(each.path, each.trouble or "yes", each.purpose) for each in folders]
        )
        console.emit_table(
            ("model", "digest", "state"),
            [(each.name, each.digest or "–", each.trouble or "can be read") for each in models],
        )
        if speeds:
            console.emit_table(("speed", "", ""), [(each.what, f"{each.value:.3g}", each.unit) for each in speeds])
    _complain([*folders, *models])


def _state(missing: tuple[str, ...]) -> str:
    return "yes" if not missing else f"no: {', '.join(missing)}"


def _complain(parts: list[Any]) -> None:
    """Say what is broken, and end with status 1 if anything is."""
    broken = [each for each in parts if each.trouble]
    for each in broken:
        what = f"model {each.name}" if hasattr(each, "name") else f"folder of {each.purpose}"
        console.warn(f"vq: {what} {each.path}: {each.trouble}")
    if broken:
        console.warn("    make such a folder writable; remove such a model, or copy it here again")
        raise typer.Exit(1)
