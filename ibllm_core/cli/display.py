"""How a run looks while it runs: a live display on a terminal, plain lines elsewhere. Rich is imported when a run starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..recipe.schema import Stage

from ..training.observer import Observer

#: Seconds between plain lines.
QUIET = 10.0


def duration(seconds: float) -> str:
    """``75`` → ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def losses(values: Mapping[str, float]) -> str:
    """The losses of a log line: ``image_nll 0.42  critic: relativistic 0.69``."""
    model = [f"{name.removeprefix('model/')} {value:.4g}" for name, value in values.items() if name.startswith("model/")]
    critic = [f"{name.removeprefix('critic/')} {value:.4g}" for name, value in values.items() if name.startswith("critic/")]
    return "  ".join(model) + ("  critic: " + "  ".join(critic) if critic else "")


def figures(values: Mapping[str, float], limit: int = 6) -> str:
    """Figures on one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in list(values.items())[:limit])


class Plain(Observer):
    """One line now and then: for logs, pipes and CI."""

    def __init__(self) -> None:
        self._said = 0.0
        self._started = (0, 0.0)

    def stage_started(self, stage: Stage, number: int, count: int, step: int) -> None:
        self._started = (step, time.perf_counter())
        self.say(f"stage {number}/{count} {stage.name}: {stage.steps} steps" + (f", going on at {step}" if step else ""))

    def logged(self, stage: Stage, step: int, values: Mapping[str, float]) -> None:
        if time.perf_counter() - self._said < QUIET and step < stage.steps:
            return
        self.say(f"{stage.name} {step}/{stage.steps}  {losses(values)}  {self.pace(stage, step, values)}")

    def pace(self, stage: Stage, step: int, values: Mapping[str, float]) -> str:
        first, since = self._started
        left = (time.perf_counter() - since) / max(1, step - first) * (stage.steps - step)
        return f"{values.get('samples_per_second', 0):.0f} items/s  {duration(left)} left in this stage"

    def validated(self, stage: Stage, step: int, figures_: Mapping[str, float], best: bool) -> None:
        self.say(f"{stage.name} {step}/{stage.steps}  held out: {figures(figures_)}{'  (best so far)' if best else ''}")

    def stage_ended(self, stage: Stage, step: int, seconds: float, figures_: Mapping[str, float], note: str) -> None:
        self.say(f"stage {stage.name} done in {duration(seconds)}" + (f"; {note}" if note else ""))
        if figures_:
            self.say(f"  {figures(figures_)}")

    def evaluating(self, what: str) -> None:
        self.say(f"measuring {what}")

    def say(self, text: str) -> None:
        self._said = time.perf_counter()
        click.echo(text)

    def close(self) -> None:
        """Nothing is left on the screen that moves."""


class Live(Plain):
    """A bar a stage with step, losses, throughput and time left; what is done stays above it as lines."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", style="dim"),
            refresh_per_second=4,
        )
        self._task: Any = None
        self._progress.start()

    def stage_started(self, stage: Stage, number: int, count: int, step: int) -> None:
        self._started = (step, time.perf_counter())
        self._task = self._progress.add_task(f"{number}/{count} {stage.name}", total=stage.steps, completed=step, values="")

    def stepped(self, stage: Stage, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def logged(self, stage: Stage, step: int, values: Mapping[str, float]) -> None:
        self._progress.update(self._task, values=f"{losses(values)}  {values.get('samples_per_second', 0):.0f} items/s")

    def evaluating(self, what: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, values=f"measuring {what}")

    def stage_ended(self, stage: Stage, step: int, seconds: float, figures_: Mapping[str, float], note: str) -> None:
        self._progress.remove_task(self._task)
        self._task = None
        super().stage_ended(stage, step, seconds, figures_, note)

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def choose() -> Plain:
    """The live display on a terminal, plain lines elsewhere."""
    return Live() if sys.stdout.isatty() else Plain()
