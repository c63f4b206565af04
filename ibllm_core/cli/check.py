"""``ibllm check``: a recipe's mistakes, or its parts as they fit together. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

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

    click.echo(_page(resolved, check(resolved)))


def _page(recipe: Recipe, report: Report) -> str:
    parts = [
        (
            row.part,
            row.component,
            f"{row.distribution} {row.version}",
            _count(row.parameters),
            _count(row.flops),
            _bytes(row.weights),
            _bytes(row.state),
        )
        for row in report.parts
    ]
    parts.append(
        (
            "together", "", "",
            _count(sum(row.parameters for row in report.parts)),
            _count(sum(row.flops for row in report.parts)),
            _bytes(sum(row.weights for row in report.parts)),
            _bytes(sum(row.state for row in report.parts)),
        )
    )  # fmt: skip
    stages = [(row.stage, str(row.steps), ", ".join(row.losses), _count(row.trained), _bytes(row.saved)) for row in report.stages]
    return "\n".join(
        [
            f"{recipe.name}: no mistakes; the parts fit",
            "",
            *_table(("part", "component", "provided by", "parameters", "FLOPs a sample", "weights", "training state"), parts, 3),
            "",
            *_table(("stage", "steps", "losses", "trained parameters", "kept for backward"), stages, 3, right=(1,)),
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


def _count(number: int) -> str:
    """1234567 → 1.23 M"""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def _bytes(number: int) -> str:
    """1048576 → 1.0 MiB"""
    size = float(number)
    for name in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1024
    return f"{size:.1f} GiB"
