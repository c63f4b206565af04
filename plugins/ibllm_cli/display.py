"""How a run looks while it runs: plain lines, or on a terminal a live display."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import IO

import click

from ibllm_core.training.events import Listener, Logged, Measuring, RunStarted, StageEnded, StageStarted, Validated

from .terminal import shown

#: Seconds between plain lines.
QUIET = 10.0


def duration(seconds: float) -> str:
    """``75`` → ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def losses(values: Mapping[str, float]) -> str:
    """The losses of a log line: ``image_nll 0.42  critic: relativistic 0.69``, without what the critic's log of themselves."""
    found = [f"{name.removeprefix('loss/')} {value:.4g}" for name, value in values.items() if name.startswith("loss/")]
    critic = [loss.removeprefix("critic/") for loss in found if loss.startswith("critic/") and loss.count("/") == 1]
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
    """A live display on a terminal, where it can be had; else lines. Only the first process has a terminal."""
    if first and file.isatty():
        with contextlib.suppress(Exception):
            from .live import LiveDisplay

            return LiveDisplay(file)
    return Display(file)
