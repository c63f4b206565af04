"""``ibllm recipes``: list the recipes and studies of all installed packages."""

from __future__ import annotations

import shutil
from pathlib import Path

import click


@click.command()
@click.argument("package", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON list of rows: address, kind, summary, distribution, version, name, path.")
def command(package: str | None, as_json: bool) -> None:
    """List the recipes and studies that packages bring, of all packages or of PACKAGE, studies marked as such.

    Each is run by its address: ibllm run PACKAGE:RECIPE, ibllm ablate PACKAGE:STUDY. A recipe's address also stands wherever another command takes a
    recipe, and after ``extends =`` and ``base =``.
    """
    list_files("recipes", package, as_json)


def list_files(what: str, package: str | None, as_json: bool) -> None:
    """Prints what packages bring in their folders of that name, a line each or as JSON."""
    import json

    import attrs

    from ibllm_core.errors import nearest
    from ibllm_core.host import packaged
    from ibllm_core.host.entry_points import plain

    from .about import summary

    found = packaged.everything(what)
    if package is not None:
        everybody, found = found, [file for file in found if plain(file.distribution) == plain(package)]
        if not found:
            known = list(dict.fromkeys(file.distribution for file in everybody))
            expected = f"a package that brings {what}: {', '.join(known) or 'none is installed'}"
            raise packaged.NotPackaged("; ".join(packaged.nothing_of(what, package)), expected, nearest(package, known))
    if as_json:
        rows = [
            attrs.asdict(file)
            | {"address": file.address, "kind": kind_of(file.path), "summary": summary(file.path), "path": str(file.path)}
            for file in found
        ]
        click.echo(json.dumps(rows, indent=2))
    elif found:
        width, source = max(len(file.address) for file in found), max(len(file.source) for file in found)
        room = max(20, shutil.get_terminal_size((120, 24)).columns - width - source - 4)
        for file in found:
            said = f"study: {summary(file.path)}" if kind_of(file.path) == "study" else summary(file.path)
            click.echo(f"{file.address:<{width}}  {shorten(said, room):<{room}}  {file.source}")
    else:
        click.echo(f"no installed package brings {what}")
    for text in packaged.nothing_of(what, ""):
        click.echo(f"note: {text}", err=True)


def kind_of(path: Path) -> str:
    """``recipe``, ``study`` or, of a file that is not TOML, ``page``."""
    import tomllib

    if path.suffix != ".toml":
        return "page"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return "recipe"
    return "study" if "base" in data else "recipe"


def shorten(text: str, room: int) -> str:
    """The text, or as much of it as there is room for."""
    return text if len(text) <= room else text[: room - 1] + "…"
