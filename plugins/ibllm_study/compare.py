"""``ibllm compare``: compare finished runs as an ablation study does."""

from __future__ import annotations

from pathlib import Path

import click

from ibllm_cli.completion import RUN
from ibllm_cli.terminal import shown
from ibllm_core.errors import UserError


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, type=RUN, metavar="RUN RUN…")
@click.option(
    "--primary", default="", metavar="SPLIT/FIGURE", help="The figure that decides; by default the first one of the split to look at first."
)
@click.option(
    "--mode",
    type=click.Choice(["max", "min"]),
    help="Whether more or less of that figure is better; by default as its metric says, else max.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where study.html and the tables go; by default nowhere.")
def command(runs: tuple[Path, ...], primary: str, mode: str | None, out: Path | None) -> int:
    """Compare finished runs: the table of a study, for runs that no study started.

    Runs of one recipe are one arm, whatever their seeds and names; the first run's arm is the base. Arms are compared seed by seed.
    With --out the page and the tables of a study are written too.
    """
    if len(runs) < 2:
        raise UserError("expected two runs or more")
    from .analysis import Analysis
    from .findings import from_runs
    from .outputs import summary, write_findings

    findings = from_runs(runs, primary, mode or "")
    for line in write_findings(findings, out) if out is not None else summary(Analysis(findings)):
        click.echo(shown(line, lines=True))
    if out is None:
        click.echo("nothing written; the page, LaTeX and CSV: the same command with --out DIR")
    return 0
