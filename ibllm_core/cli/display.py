"""How a run looks while it runs: a live display on a terminal, plain lines elsewhere. Rich is imported when a run starts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import IO, Any

import click

from ..host.output import shown
from ..training.events import Listener, Logged, Measuring, RunStarted, StageEnded, StageStarted, Stepped, Validated

#: Seconds between plain lines.
QUIET = 10.0


def duration(seconds: float) -> str:
    """``75`` → ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def losses(values: Mapping[str, float]) -> str:
    """The losses of a log line: ``image_nll 0.42  critic: relativistic 0.69``."""
    found = [f"{name.removeprefix('loss/')} {value:.4g}" for name, value in values.items() if name.startswith("loss/")]
    critic = [loss.removeprefix("critic/") for loss in found if loss.startswith("critic/")]
    model = [loss for loss in found if not loss.startswith("critic/")]
    return "  ".join(model) + ("  critic: " + "  ".join(critic) if critic else "")


def figures(values: Mapping[str, float]) -> str:
    """The first figures on one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in list(values.items())[:6])


class Display(Listener):
    """One line now and then: for logs, pipes and CI; into `file` instead of standard output."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file, self._said = file, 0.0
        self._steps, self._begun, self._since = 0, 0, 0.0  # of the stage: all, those done when it was started, and when that was

    def on_run_started(self, event: RunStarted) -> None:
        stages = ", ".join(f"{stage.name} {stage.steps}" for stage in event.recipe.running())
        self.say(f"{event.recipe.name}: {stages} steps → {event.run_directory}")

    def on_stage_started(self, event: StageStarted) -> None:
        self._steps, self._begun, self._since = event.stage.steps, event.step, time.perf_counter()
        more = f", going on at {event.step}" if event.step else ""
        self.say(f"stage {event.number}/{event.count} {event.stage.name}: {event.stage.steps} steps{more}")

    def on_logged(self, event: Logged) -> None:
        if event.kind == "train" and (time.perf_counter() - self._said >= QUIET or event.step == self._steps):
            left = (time.perf_counter() - self._since) / max(1, event.step - self._begun) * (self._steps - event.step)
            pace = f"{event.figures.get('samples_per_second', 0):.0f} items/s  {duration(left)} left in this stage"
            self.say(f"{event.stage} {event.step}/{self._steps}  {losses(event.figures)}  {pace}")

    def on_validated(self, event: Validated) -> None:
        best = "  (best so far)" if event.best else ""
        self.say(f"{event.stage.name} {event.step}/{self._steps}  held out: {figures(event.figures)}{best}")

    def on_stage_ended(self, event: StageEnded) -> None:
        self.say(f"stage {event.stage.name} done in {duration(event.seconds)}" + (f"; {event.note}" if event.note else ""))
        if event.figures:
            self.say(f"  {figures(event.figures)}")

    def on_measuring(self, event: Measuring) -> None:
        self.say(f"measuring {event.what}")

    def say(self, text: str) -> None:
        self._said = time.perf_counter()
        click.echo(shown(text), file=self._file)

    def close(self) -> None:
        """Nothing is left on the screen that moves."""


def display(file: IO[str], first: bool) -> Display:
    """A live display for the first process on a terminal, where it can be had; else lines."""
    with contextlib.suppress(Exception):
        return LiveDisplay(file) if first and file.isatty() else Display(file)
    return Display(file)


class LiveDisplay(Display):
    """A bar a stage with step and time left, its losses and throughput below; what is done stays above as lines."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file)
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", style="bold", markup=False), BarColumn(bar_width=32), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), auto_refresh=False)
        self._task: Any = None
        self._screen = Live(self._progress, console=Console(file=file), refresh_per_second=4)
        self._screen.start()

    def on_stage_started(self, event: StageStarted) -> None:
        self._steps, name = event.stage.steps, f"stage {event.number}/{event.count} {event.stage.name}"
        self._task = self._progress.add_task(shown(name), total=event.stage.steps, completed=event.step)
        self._below("")

    def on_stepped(self, event: Stepped) -> None:
        self._progress.update(self._task, completed=event.step)

    def on_logged(self, event: Logged) -> None:
        if event.kind == "train":
            self._below(f"{losses(event.figures)}  {event.figures.get('samples_per_second', 0):.0f} items/s")

    def on_measuring(self, event: Measuring) -> None:
        self._below(f"measuring {event.what}")

    def on_stage_ended(self, event: StageEnded) -> None:
        self._progress.remove_task(self._task)
        self._below("")
        super().on_stage_ended(event)

    def say(self, text: str) -> None:
        self._screen.console.print(shown(text), highlight=False, soft_wrap=True, markup=False, emoji=False)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a display that has failed was told of
            self._below("")
            self._screen.stop()

    def _below(self, text: str) -> None:
        from rich.console import Group
        from rich.text import Text

        self._screen.update(Group(self._progress, Text(shown(text), style="dim", overflow="ellipsis", no_wrap=True)))
