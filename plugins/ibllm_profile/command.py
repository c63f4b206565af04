"""``ibllm profile``: say where a recipe's training spends its time, and what would make it faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@click.command(name="profile")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Iterations of each stage that are timed.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed (of weights, data and evaluation alike).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. training.batch=256; may be repeated.")
@click.option("--device", help="Where to train, e.g. cpu or cuda:1, instead of the recipe's compute.device.")
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Write a Chrome trace of some iterations to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def command(
    recipe: Path, steps: int, seed: int | None, sets: tuple[str, ...], device: str | None, trace: Path | None, as_json: bool
) -> None:
    """Play a few iterations of each of RECIPE's stages, and say where their time goes and what would make them faster.

    Nothing is written but the trace, which chrome://tracing and ui.perfetto.dev show. Weights that the recipe takes from other runs are not read.
    """
    import json

    from ibllm.api import on_device
    from ibllm_core.host.attribution import naming, stdout_to_stderr
    from ibllm_core.recipe import load
    from ibllm_core.runs.directory import write_text

    if trace is not None:
        _require_writable(trace)
    resolved = on_device(load(recipe, sets, seed), device)
    with naming(resolved), stdout_to_stderr(), _progress() as say:
        from .measuring import profile_recipe

        profile, events = profile_recipe(resolved, steps, say)
    if trace is not None:
        write_text(trace, json.dumps(events))
    if as_json:
        click.echo(json.dumps(profile.plain(), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from .table import rendered

    Console(highlight=False, soft_wrap=False).print(rendered(profile))


def _require_writable(path: Path) -> None:
    """Says what cannot be written before anything is measured."""
    import os

    from ibllm_core.errors import writing

    probe = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        probe.touch()
        probe.unlink()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being looked at, on a terminal while it lasts."""
    from rich.console import Console

    with Console(stderr=True).status("the recipe is walked and built") as status:
        yield lambda text: status.update(f"profiling {text}")
