"""``ibllm compare``: compare finished runs as an ablation study does."""

from __future__ import annotations

from pathlib import Path

import click

from ibllm_cli.completion import RUN
from ibllm_cli.terminal import shown
from ibllm_core.errors import UserError


@click.command(name="compare")
@click.argument("runs", nargs=-1, type=RUN, metavar="RUN RUN…")
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of runs: a table with the columns arm, seed, and figures.",
)
@click.option("--mlflow", "store", metavar="URI", help="Instead of runs: those of an MLflow store; extra ibllm[mlflow].")
@click.option("--experiment", help="Of --mlflow: the experiment's name.")
@click.option("--arm", default="arm", show_default=True, help="Of --mlflow: the parameter or tag that says a run's arm.")
@click.option("--seed", default="seed", show_default=True, help="Of --mlflow: the parameter or tag that says a run's seed.")
@click.option("--base", default="", help="Of --csv and --mlflow: the arm that others are compared with; by default base, else the first.")
@click.option(
    "--primary", default="", metavar="SPLIT/FIGURE", help="The figure that decides; by default the first one of the split to look at first."
)
@click.option(
    "--mode",
    type=click.Choice(["max", "min"]),
    help="Whether more or less of that figure is better; by default as its metric says.",
)
@click.option("--accept-code", is_flag=True, help="Compare runs of one arm, though they were made with different source code or data.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where study.html and the tables go; by default nowhere.")
def command(
    runs: tuple[Path, ...],
    table: Path | None,
    store: str | None,
    experiment: str | None,
    arm: str,
    seed: str,
    base: str,
    primary: str,
    mode: str | None,
    accept_code: bool,
    out: Path | None,
) -> int:
    """Compare finished runs: the table of a study, for runs that no study started.

    Runs of one recipe are one arm, whatever their seeds and names; the first run's arm is the base. Arms are compared seed by seed.
    A table of figures that others wrote (--csv, --mlflow) is compared the same way.
    With --out the page and the tables of a study are written too.
    """
    if bool(runs) + (table is not None) + (store is not None) != 1:
        raise UserError("expected two runs or more, or --csv FILE, or --mlflow URI")
    if (store is None) != (experiment is None):
        raise UserError("expected --mlflow URI and --experiment NAME together")
    if len(runs) == 1:
        raise UserError("expected two runs or more")
    if runs and base:
        raise UserError("--base belongs to --csv and --mlflow: of runs, the first one's arm is the base")
    from .analysis import Analysis
    from .findings import from_runs
    from .foreign import from_csv
    from .outputs import summary, write_findings

    if table is not None:
        findings = from_csv(table, primary, mode or "", base)
    elif store is not None and experiment is not None:
        from .mlflow_store import from_mlflow

        findings = from_mlflow(store, experiment, arm=arm, seed=seed, primary=primary, mode=mode or "", base=base)
    else:
        findings = from_runs(runs, primary, mode or "", accept_code)
    for line in write_findings(findings, out) if out is not None else summary(Analysis(findings)):
        click.echo(shown(line, lines=True))
    if out is None:
        click.echo("nothing written; the page, LaTeX and CSV: the same command with --out DIR")
    return 0
