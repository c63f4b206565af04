"""``ibllm check``: validate a recipe; print its parts, parameters and memory. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ibllm.contracts import Report
    from ibllm_core.recipe.schema import Recipe


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed (of weights, data and evaluation alike).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. stages.joint.steps=40; may be repeated.")
def command(recipe: Path, seed: int | None, sets: tuple[str, ...]) -> None:
    """Validate RECIPE and build it without memory: every part and every stage's losses are walked once.

    All mistakes of the recipe are shown at once, each with its file and line, and the exit code is then 2.
    """
    from ibllm_core.recipe import load

    resolved = load(recipe, sets, seed)
    from ibllm.contracts import check
    from ibllm_core.host.attribution import naming, stdout_to_stderr

    with naming(resolved), stdout_to_stderr():
        report = check(resolved)
    click.echo(_page(resolved, report))


def _page(recipe: Recipe, report: Report) -> str:
    from ibllm.units import readable, readable_bytes
    from ibllm_cli.terminal import shown
    from ibllm_core.recipe.draft import named_parts

    numbers = [(row.parameters, row.flops, row.weights, row.state) for row in report.parts]
    named = [(row.part, str(row.component), f"{row.component.distribution} {row.component.version}") for row in report.parts]
    totals = map(sum, zip(*numbers, strict=True))
    parts = [
        (*words, readable(p), readable(f), readable_bytes(w), readable_bytes(s))
        for words, (p, f, w, s) in zip([*named, ("together", "", "")], [*numbers, totals], strict=True)
    ]
    stages = [
        (
            shown(stage.name),
            str(stage.steps),
            ", ".join(stage.losses),
            readable(row.trained),
            readable(row.flops),
            readable_bytes(row.saved),
        )
        for stage, row in zip(recipe.running(), report.stages, strict=True)
    ]
    users = {name: [part for part, one in recipe.parts.items() if name in named_parts(one.config)] for name in recipe.model.shared}
    sizes = {row.part: readable(row.parameters) for row in report.parts}
    shared = "".join(f"\n\n{name}: {sizes[name]} parameters, shared by {', '.join(used) or 'no part'}" for name, used in users.items())
    notes = "".join(f"\n\nnote: {note}" for note in report.notes())
    return f"""{shown(recipe.name)}: no mistakes; the parts fit

{_columns("<<<>>>>", ("part", "component", "provided by", "parameters", "FLOPs a sample", "weights", "training state"), *parts)}{shared}

{_columns("<><>>>", ("stage", "steps", "losses", "trained parameters", "FLOPs an item", "kept for backward"), *stages)}

The whole training: {readable(report.training_flops(recipe))} FLOPs, the sum over stages of steps × batch × FLOPs an item. \
An item's are those of one iteration, forward and backward, for all players; texts have their full length.

Training state is gradients and the optimizer's moments; what is kept for the backward pass is for one micro-batch. Nothing was trained.{notes}"""


def _columns(sides: str, heads: Sequence[str], *rows: Sequence[str]) -> str:
    """A table; `sides` says of each column whether it stands to the left (``<``) or to the right (``>``)."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    forms = [f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True)]
    first, *others = ("  ".join(forms).format(*row).rstrip() for row in (heads, *rows))
    return "\n".join([click.style(first, bold=True), *others])
