"""``ibllm rules``: whether rules hold of a recipe's data, or of what a trained model writes and draws."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibllm.plugin import UserError

if TYPE_CHECKING:
    from ibllm.plugin import Dataset, Recipe
    from ibllm_logic.formulas import Rules
    from ibllm_logic.worlds import Tally


@click.command(name="rules")
@click.argument("source", type=click.Path(path_type=Path), metavar="RECIPE|RUN")
@click.option("--rules", "file", type=click.Path(path_type=Path), metavar="FILE", help="The rules; by default those that the recipe names.")
@click.option(
    "--split", "splits", multiple=True, metavar="S", help="Split to look at, by default train and the reported ones; may be repeated."
)
@click.option("--items", type=click.IntRange(min=1), default=256, show_default=True, help="Items of each split, from its beginning.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.")
@click.option("--device", help="Where a trained model computes; by default where it was trained.")
@click.option("--strict", is_flag=True, help="Exit with 2 where a rule does not hold of the data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(
    source: Path,
    file: Path | None,
    splits: tuple[str, ...],
    items: int,
    sets: tuple[str, ...],
    device: str | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Check logical rules on the data of RECIPE, or of RUN on the data, on captions that its model writes and on drawings.

    A mistake in a file of rules is told with file, line and column, and the exit code is 2.
    """
    import ibllm

    run = source.is_dir()
    if run and sets:
        raise UserError("--set changes a recipe, and this is a run: expected a recipe, or no --set")
    opened: Any = ibllm.open(source, device=device) if run else None
    recipe: Recipe = opened.recipe if run else ibllm.recipe(source, set=sets).resolved
    dataset: Dataset = opened.dataset if run else ibllm.recipe(source, set=sets).dataset
    found = {str(path): _of(rules, recipe, dataset, opened, splits, items) for path, rules in _files(recipe, file)}
    if as_json:
        click.echo(json.dumps({path: list(map(_plain, tables)) for path, tables in found.items()}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_shown(path, tables) for path, tables in found.items()))
    broken = [one for tables in found.values() for table in tables if table["of"] == "data" for one in table["tallies"] if one.broken]
    if strict and broken:
        raise UserError(
            f"{len(broken)} rule{'s do' if len(broken) > 1 else ' does'} not hold of the data: {broken[0].rule.place}: {broken[0].rule.name}"
        )
    return 0


def _files(recipe: Recipe, file: Path | None) -> Iterator[tuple[Path, Rules]]:
    """The file that is named, or those of the recipe's losses and metrics."""
    from ibllm_logic.config import RulesLossConfig, RulesMetricConfig
    from ibllm_logic.language import read_rules

    configs = [component.config for component in recipe.components().values()]
    named = [Path(one.file) for one in configs if isinstance(one, RulesLossConfig | RulesMetricConfig)]
    files = [file] if file is not None else list(dict.fromkeys(named))
    if not files:
        raise UserError('the recipe names no rules: expected --rules FILE, or a loss or a metric with use = "rules"')
    for path in files:
        yield path, read_rules(path)


def _of(rules: Rules, recipe: Recipe, dataset: Dataset, opened: Any, splits: Sequence[str], items: int) -> list[dict[str, Any]]:
    """A table for the data of each split, and for a trained model's captions and drawings."""
    import numpy as np

    from ibllm.plugin import Evaluation
    from ibllm_logic.metric import Describing, tallied
    from ibllm_logic.worlds import tally

    known = dataset.sizes()
    for split in splits:
        if split not in known:
            raise UserError(f"--split {split}: the data have no such split: expected one of {', '.join(known)}")
    tables: list[dict[str, Any]] = []
    for split in splits or dict.fromkeys(["train", *recipe.evaluation.splits]):
        samples = dataset.samples(split, np.arange(min(items, known[split])))
        if samples.captions is None:
            raise UserError("the data give no captions, and rules are about what captions name")
        seen = list(dataset.describe(samples.images)) if isinstance(dataset, Describing) and samples.images is not None else None
        tallies, left = tally(rules, samples.captions, seen)
        who = "the dataset's own reader" if seen is not None else "the captions"
        tables.append({"split": split, "of": "data", "items": len(samples), "nothing said of": left, "seen by": who, "tallies": tallies})
        parts = opened.model.parts if opened is not None and split != "train" else {}
        for what, needed in (("captions", {"image_encoder", "text_decoder"}), ("drawings", {"text_encoder", "image_decoder"})):
            if needed <= set(parts) and (what == "captions" or isinstance(dataset, Describing) or "text_decoder" in parts):
                evaluation = Evaluation(opened.model, dataset, split, items=items, seed=recipe.seed.evaluation)
                tallies, left, who = tallied(rules, evaluation, what)
                tables.append(
                    {"split": split, "of": what, "items": len(evaluation), "nothing said of": left, "seen by": who, "tallies": tallies}
                )
    return tables


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    def row(one: Tally) -> dict[str, Any]:
        kept = {"rule": one.rule.name, "place": one.rule.place, "applies": one.applies, "holds": one.holds}
        return {**kept, "items with a violation": one.broken, "example": one.example}

    return {**{key: value for key, value in table.items() if key != "tallies"}, "rules": list(map(row, table["tallies"]))}


def _shown(path: str, tables: Sequence[Mapping[str, Any]]) -> str:
    lines = [path]
    for table in tables:
        unsaid, judged = table["nothing said of"], "count as showing nothing" if table["of"] == "drawings" else "are left out"
        left = f"; {unsaid} of which nothing can be read {judged}" if unsaid else ""
        sees = f"images as {table['seen by']} see{'' if table['seen by'].endswith('captions') else 's'} them"
        lines.append(f"\n{table['of']} of {table['split']}: {table['items']} items, {sees}{left}")
        for one in table["tallies"]:
            share = "does not apply" if not one.applies else f"{100 * one.share:.1f} % of {one.applies:,}"
            lines.append(f"  {share:>18}  {one.rule.name}")
            if one.broken:
                lines.append(f"  {'':>18}  not in {one.broken} item{'s' if one.broken > 1 else ''}, first: {one.example}")
    return "\n".join(lines)
