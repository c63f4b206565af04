"""``ibllm check``: a recipe's mistakes, or its parts as they fit together. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..host.units import readable, readable_bytes

if TYPE_CHECKING:
    from ..contracts import Report
    from ..recipe.schema import Recipe


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed (of weights, data and evaluation alike).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. stages.joint.steps=40; may be repeated.")
def command(recipe: Path, seed: int | None, sets: tuple[str, ...]) -> None:
    """Validate RECIPE and build it without memory: every part and every stage's losses are walked once.

    All mistakes of the recipe are shown at once, each with its file and line, and the exit code is then 2.
    """
    from ..recipe import load

    resolved = load(recipe, sets, seed)
    from ..contracts import check
    from ..host.attribution import naming
    from ..host.output import stdout_to_stderr

    with naming(resolved), stdout_to_stderr():
        report = check(resolved)
    click.echo(_page(resolved, report))


def _page(recipe: Recipe, report: Report) -> str:
    parts = [
        (
            row.part,
            row.component,
            f"{row.distribution} {row.version}",
            readable(row.parameters),
            readable(row.flops),
            readable_bytes(row.weights),
            readable_bytes(row.state),
        )
        for row in report.parts
    ]
    parts.append(
        (
            "together", "", "",
            readable(sum(row.parameters for row in report.parts)),
            readable(sum(row.flops for row in report.parts)),
            readable_bytes(sum(row.weights for row in report.parts)),
            readable_bytes(sum(row.state for row in report.parts)),
        )
    )  # fmt: skip
    stages = [
        (row.stage, str(row.steps), ", ".join(row.losses), readable(row.trained), readable(row.flops), readable_bytes(row.saved))
        for row in report.stages
    ]
    return "\n".join(
        [
            f"{recipe.name}: no mistakes; the parts fit",
            "",
            *_table(("part", "component", "provided by", "parameters", "FLOPs a sample", "weights", "training state"), parts, 3),
            "",
            *_table(("stage", "steps", "losses", "trained parameters", "FLOPs an item", "kept for backward"), stages, 3, right=(1,)),
            "",
            f"The whole training: {readable(report.training_flops(recipe))} FLOPs, the sum over stages of steps × batch × FLOPs an item. "
            "An item's are those of one iteration, forward and backward, for all players; texts have their full length.",
            "",
            "Training state is gradients and the optimizer's moments; what is kept for the backward pass is for one micro-batch. Nothing was trained.",
        ]
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int, right: Sequence[int] = ()) -> list[str]:
    """Lines of a table; the first `words` columns to the left but those in `right`, the rest to the right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if column < words and column not in right else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [click.style(line(heads), bold=True), *map(line, rows)]
