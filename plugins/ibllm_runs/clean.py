"""``ibllm clean``: show what is left over, and remove it. Half-written files, stages that no run begins with, caches."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .leftovers import KINDS, left_over


@click.command(name="clean")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--only", type=click.Choice(list(KINDS)), multiple=True, help="Only what is of this kind; may be repeated.")
@click.option("--yes", is_flag=True, help="Remove it without asking.")
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON list instead of a table: kind, path, why, bytes. Removes nothing without --yes."
)
def command(folder: Path, only: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Show what is left over in FOLDER (by default runs), in the cache and among temporary files; remove it once you agree.

    Runs, their checkpoints and figures are never among it. A run that a process trains in is left alone.
    """
    import json

    import attrs

    from ibllm.units import readable_bytes
    from ibllm_cli.terminal import shown

    found = left_over(folder, only)
    total = readable_bytes(sum(one.bytes for one in found))
    if as_json:
        click.echo(json.dumps([attrs.asdict(one) | {"path": str(one.path)} for one in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo("nothing is left over")
    for one in () if as_json else found:
        click.echo(f"{one.kind:<9}  {readable_bytes(one.bytes):>10}  {shown(one.path)}: {shown(one.why)}")
    if not found or (as_json and not yes):
        return
    if not yes:
        if not sys.stdin.isatty():
            click.echo(f"{len(found)} to remove, {total}: ibllm clean --yes removes them, --only KIND some of them")
            return
        click.confirm(f"remove these {len(found)}, {total}?", abort=True)
    for one in found:
        one.remove()
    click.echo(f"removed {len(found)}, {total}", err=as_json)
