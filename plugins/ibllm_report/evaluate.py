"""``ibllm evaluate``: measure a finished run on a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from ibllm_cli.completion import RUN, splits_of_run
from ibllm_cli.terminal import shown, typed
from ibllm_core.errors import UserError, suggestion
from ibllm_core.host.options import DatasetConfig

if TYPE_CHECKING:
    from ibllm.api import Run
    from ibllm_core.recipe.schema import Recipe


@click.command(name="evaluate")
@click.argument("run", type=RUN)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="S",
    shell_complete=splits_of_run,
    help="Split to measure on, by default those of the recipe; may be repeated.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the noise; by default the recipe's.")
@click.option("--items", type=click.IntRange(min=1), help="Items of each split; by default the recipe's.")
@click.option("--device", help="Where to measure, e.g. cpu or cuda:1; by default where it was trained, if there is such a device here.")
@click.option("--without", "away", multiple=True, metavar="METRIC", help="Leave a metric of the recipe out; may be repeated.")
@click.option(
    "--translate",
    multiple=True,
    metavar="A,B",
    help="Measure captions in the language A → image → captions in the language B, too; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON table instead.")
def command(
    run: Path,
    splits: tuple[str, ...],
    seed: int | None,
    items: int | None,
    device: str | None,
    away: tuple[str, ...],
    translate: tuple[str, ...],
    as_json: bool,
) -> int:
    """Measure the trained model of RUN on held-out data. Nothing in RUN is changed."""
    from ibllm.api import Run

    opened = Run(run, device)
    plan = opened.recipe.evaluation
    known = opened.recipe.data.config.splits() if isinstance(opened.recipe.data.config, DatasetConfig) else splits
    for split in splits:
        if split not in known:
            raise UserError(f"no split {split!r} in {opened.recipe.data.use}; {suggestion(split, known)}")
    _require_model(opened, away)
    recipe = attrs.evolve(opened.recipe, metrics={name: one for name, one in opened.recipe.metrics.items() if name not in away})
    results, measured = _measure(opened, recipe, splits or plan.splits, items or plan.items, seed, translate)
    if away:
        click.echo(f"left out: {', '.join(f'metrics.{name}' for name in dict.fromkeys(away))}", err=True)
    if as_json:
        import json

        click.echo(json.dumps(results, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from ibllm.glossary import Glossary

        from .files import described
        from .results_table import results_table

        how = Table(title="How they were measured", title_justify="left", show_header=False)
        for name, record in measured.items():
            how.add_row(Text(name), Text(described(record), style="dim"))
        Console().print(results_table(results, Glossary.of(opened.recipe).cautioned(measured.values())), how)
    return 0


def _measure(
    opened: Run, recipe: Recipe, splits: Sequence[str], items: int, seed: int | None, translate: Sequence[str]
) -> tuple[dict[str, float], dict[str, Mapping[str, str | int | float]]]:
    """The flat table of all splits, and how each metric came to its figures, by split and metric."""
    from ibllm.languages import extended
    from ibllm.vocabulary import told
    from ibllm_core.host.attribution import naming, stdout_to_stderr
    from ibllm_core.model.build import build_metrics
    from ibllm_core.model.compute import arithmetic
    from ibllm_core.model.evaluation import evaluate, records

    measured: dict[str, Mapping[str, str | int | float]] = {}
    results: dict[str, float] = {}
    with naming(opened.recipe), stdout_to_stderr(), arithmetic(opened.recipe.compute.precision == "tf32"):
        metrics = extended(recipe, build_metrics(recipe), translate)
        for text in told(opened.dataset, opened.model.tokenizers, dict.fromkeys(splits, items)):
            click.echo(text, err=True)
        for split in splits:
            figures, evaluation = evaluate(
                opened.model,
                opened.dataset,
                metrics,
                split,
                items=items,
                seed=opened.recipe.seed.evaluation if seed is None else seed,
                batch=opened.recipe.evaluation.batch,
                declared=opened.recipe.figures(),
            )
            results |= {f"{split}/{name}": value for name, value in figures.items()}
            results[f"{split}/items"] = float(len(evaluation))
            measured |= {f"{split} {name}": record for name, record in records(metrics, evaluation).items()}
    return results, measured


def _require_model(run: Run, away: Iterable[str]) -> None:
    """Raises `UserError`, with the command that goes on, where the run has not come to its end, and for a metric that it has not."""
    for name in away:
        if name not in run.recipe.metrics:
            raise UserError(f"--without {name}: the run has no such metric; {suggestion(name, run.recipe.metrics)}")
    if not run.directory.model.is_dir():
        words = ("ibllm", "run", run.path, "--resume", *(word for name in away for word in ("--set", f"metrics.{name}=false")))
        status = run.info.get("status", "not begun")
        raise UserError(f"{shown(run.path)} has no trained model yet: it is {status}; go on with it: {typed(*words)}")
