"""How a run looks while it runs: a live display on a terminal, plain lines elsewhere. Rich is imported when a run starts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

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
    found = {name.removeprefix("loss/"): f"{value:.4g}" for name, value in values.items() if name.startswith("loss/")}
    critic = [f"{name.removeprefix('critic/')} {value}" for name, value in found.items() if name.startswith("critic/")]
    model = [f"{name} {value}" for name, value in found.items() if not name.startswith("critic/")]
    return "  ".join(model) + ("  critic: " + "  ".join(critic) if critic else "")


def figures(values: Mapping[str, float], limit: int = 6) -> str:
    """Figures on one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in list(values.items())[:limit])


class Plain(Observer):
    """One line now and then: for logs, pipes and CI; into `file` instead of standard output."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file, self._said = file, 0.0
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
        click.echo(text, file=self._file)

    def close(self) -> None:
        """Nothing is left on the screen that moves."""


class Live(Plain):
    """A bar a stage with step and time left, its losses and throughput below; what is done stays above as lines."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file)
        from rich.console import Console
        from rich.live import Live as Screen
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), auto_refresh=False)
        self._task: Any = None
        self._screen = Screen(self._progress, console=Console(file=file), refresh_per_second=4)
        self._screen.start()

    def stage_started(self, stage: Stage, number: int, count: int, step: int) -> None:
        self._started = (step, time.perf_counter())
        self._task = self._progress.add_task(f"stage {number}/{count} {stage.name}", total=stage.steps, completed=step)
        self._below("")

    def stepped(self, stage: Stage, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def logged(self, stage: Stage, step: int, values: Mapping[str, float]) -> None:
        self._below(f"{losses(values)}  {values.get('samples_per_second', 0):.0f} items/s")

    def evaluating(self, what: str) -> None:
        self._below(f"measuring {what}")

    def stage_ended(self, stage: Stage, step: int, seconds: float, figures_: Mapping[str, float], note: str) -> None:
        self._progress.remove_task(self._task)
        self._below("")
        super().stage_ended(stage, step, seconds, figures_, note)

    def say(self, text: str) -> None:
        self._screen.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._below("")
        self._screen.stop()

    def _below(self, text: str) -> None:
        from rich.console import Group
        from rich.text import Text

        self._screen.update(Group(self._progress, Text(text, style="dim", overflow="ellipsis", no_wrap=True)))


def choose(file: IO[str]) -> Plain:
    """The live display on a terminal, plain lines elsewhere."""
    return Live(file) if file.isatty() else Plain(file)
