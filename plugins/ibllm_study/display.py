"""How a study looks while it runs: a table of arms × seeds on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ibllm_cli.display import duration
from ibllm_cli.terminal import shown

from .directory import DONE, FAILED, PRUNED, RUNNING, Outcome
from .runner import Progress, Watcher
from .statistics import compare, summarise

if TYPE_CHECKING:
    from .plan import Cell, Plan


class PlainWatcher(Watcher):
    """A line a finished run: for logs, pipes and CI."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.done = plan, 0
        self._begun = time.monotonic()

    def planned(self, plan: Plan) -> None:
        self.plan = plan

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        self.done += 1
        primary = self.plan.study.table.decides
        what = f"{primary} {_value(outcome.results, self.plan)}" if outcome.status == DONE else f"{outcome.status}: {outcome.reason}"
        self.say(f"{cell.arm.name}, seed {cell.seed}: {what}  ({duration(seconds)})")

    def say(self, text: str) -> None:
        click.echo(shown(text))

    def close(self) -> None:
        """Nothing is left on the screen that moves."""


class LiveWatcher(PlainWatcher):
    """The table, drawn in place; what failed stays above it as lines."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        from rich.live import Live

        self._screen = Live(refresh_per_second=4, transient=False)
        self._screen.start()
        self._drawn = 0.0
        self._known: dict[object, tuple[str, str]] = {}
        self._last: Mapping[str, Progress] = {}

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        self.done += 1
        if outcome.status == FAILED:
            self.say(f"{cell.arm.name}, seed {cell.seed}: failed: {outcome.reason}")

    def looked(self, progress: Mapping[str, Progress]) -> None:
        self._last = progress
        if time.monotonic() - self._drawn > 0.5:
            self._drawn = time.monotonic()
            self._screen.update(self.view(progress))

    def view(self, progress: Mapping[str, Progress], ended: bool = False) -> Any:
        """The table and, below it, how far it all is."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._table(progress), Text(self._line(progress, ended), style="dim"))

    def _table(self, progress: Mapping[str, Progress]) -> Any:
        """Arms × seeds: a figure where a run is done, the stage and its share where it is under way."""
        from rich.markup import escape
        from rich.table import Table

        study = self.plan.study
        table = Table(
            box=None, pad_edge=False, title=escape(shown(f"{study.name}: {study.table.decides}")), title_justify="left", title_style="bold"
        )
        table.add_column("arm", no_wrap=True, max_width=40, overflow="ellipsis")
        for seed in study.seeds:
            table.add_column(str(seed), justify="right", no_wrap=True)
        table.add_column("mean so far", justify="right", no_wrap=True)
        table.add_column("difference so far", justify="right", no_wrap=True)
        known: dict[str, dict[int, float | None]] = {}
        for arm in self.plan.arms:
            row = [progress[self.plan.cell(arm.name, seed).id] for seed in study.seeds]
            known[arm.name] = {seed: p.results.get(study.table.decides) for seed, p in zip(study.seeds, row, strict=True)}
            mean, difference = self._so_far(known[self.plan.arms[0].name], known[arm.name], arm.name)
            table.add_row(escape(shown(arm.name)), *(_cell(p, self.plan) for p in row), f"[bold]{escape(mean)}[/]", escape(difference))
        return table

    def _so_far(self, base: Mapping[int, float | None], own: Mapping[int, float | None], arm: str) -> tuple[str, str]:
        """An arm's mean and its difference to the base, each with its interval; computed once for the runs that there are."""
        key = (tuple(base.items()), tuple(own.items()), arm)
        if key not in self._known:
            confidence = self.plan.study.table.confidence
            summary = summarise(own.values(), confidence)
            mean = self._with_interval(summary.mean, summary.low, summary.high, "")
            difference = ""
            if arm != self.plan.arms[0].name:
                found = compare(base, own, confidence, higher_is_better=self.plan.mode == "max")
                difference = self._with_interval(found.difference, found.low, found.high, "+")
            self._known[key] = mean, difference
        return self._known[key]

    def _with_interval(self, value: float | None, low: float | None, high: float | None, sign: str) -> str:
        """``93.2 % [91.0, 95.1]``."""
        if value is None:
            return ""
        percent, factor = self.plan.primary.percent, 100 if self.plan.primary.percent else 1
        form = f"{sign}.1f" if percent else f"{sign}.3g"
        interval = "" if low is None or high is None else f" [{factor * low:{form}}, {factor * high:{form}}]"
        return f"{factor * value:{form}}{' %' if percent and not sign else ''}{interval}".replace("-", "−")

    def say(self, text: str) -> None:
        self._screen.console.print(shown(text), highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        if self._last:
            self._screen.update(self.view(self._last, ended=True))
        self._screen.stop()

    def _line(self, progress: Mapping[str, Progress], ended: bool) -> str:
        whole = len(progress)
        done = sum(p.status in (DONE, FAILED, PRUNED) for p in progress.values())
        elapsed = time.monotonic() - self._begun
        if ended:
            return f"{done} of {whole} runs, {duration(elapsed)}"
        share = sum(p.share for p in progress.values() if p.status == RUNNING)
        # Only what this invocation did says how quick it is.
        left = f", about {duration(elapsed / (self.done + share) * (whole - done - share))} left" if self.done + share > 0.1 else ""
        return f"{done} of {whole} runs, {duration(elapsed)}{left}; Ctrl-C stops with checkpoints"


def choose(plan: Plan) -> PlainWatcher:
    """The live table on a terminal, plain lines elsewhere."""
    return LiveWatcher(plan) if sys.stdout.isatty() else PlainWatcher(plan)


def _cell(progress: Progress, plan: Plan) -> str:
    if progress.status == RUNNING:
        from rich.markup import escape

        return f"[cyan]{escape(shown(progress.stage or 'start'))} {100 * progress.share:.0f} %[/]"
    if progress.status == DONE:
        return _value(progress.results, plan)
    return {FAILED: "[red]failed[/]", PRUNED: "[yellow]pruned[/]"}.get(progress.status, "[dim]·[/]")


def _value(results: Mapping[str, float], plan: Plan) -> str:
    primary = plan.study.table.decides
    return plan.primary.shown(results[primary]) if primary in results else "—"
