"""``ibllm diff``: show what really differs between two recipes. Everything is resolved first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe


@click.command()
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", type=click.Path(path_type=Path), metavar="B")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of B, e.g. stages.joint.steps=40; may be repeated.")
def command(first: Path, second: Path, sets: tuple[str, ...]) -> None:
    """Show what really differs between A and B: recipes, or the directories of runs.

    Both are resolved first: what they extend is laid over, defaults and followed widths are filled in, and how a recipe is
    spread over files makes no difference. Of runs, the state of the source code and of the runs that weights were taken from is compared too.
    To see what an override does: ibllm diff R R --set KEY=VALUE.
    """
    from ibllm_cli.terminal import shown
    from ibllm_inspect.differences import differences

    before, after = _load(first), _load(second, sets)
    lines = [*_sources(first, second, after), *differences(before, after)]
    click.echo(shown("\n".join(lines), lines=True) if lines else "no difference once resolved")


def _sources(first: Path, second: Path, after: Recipe) -> list[str]:
    """What two runs were made with another state of; of a recipe, the state that is here now. Nothing where A is no run, or does not say."""
    from ibllm.sources import changed, sources
    from ibllm_core.runs.directory import RunDirectory

    if not first.is_dir():
        return []
    old, directory = RunDirectory(first).info().get("sources") or {}, RunDirectory(second)
    new = directory.info().get("sources") or {} if directory.recipe.is_file() else sources(after)
    return [f"source of {name}: {old[name]} → {new[name]}" for name in changed(old, new)]


def _load(path: Path, sets: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a run directory, or the one that the path itself is."""
    from ibllm.opening import load_run
    from ibllm_core.recipe import load
    from ibllm_core.runs.directory import RunDirectory

    directory = RunDirectory(path)
    return load_run(directory, sets) if directory.recipe.is_file() else load(path, sets)
