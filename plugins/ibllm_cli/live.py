"""The live display of a run. Rich is imported when a run starts."""

from __future__ import annotations

import contextlib
from typing import IO, Any

from ibllm_core.training.events import Logged, Measuring, StageEnded, StageStarted, Stepped

from .display import Display, losses
from .terminal import shown


class LiveDisplay(Display):
    """A bar a stage with step and time left, its losses and throughput below; what is done stays above as lines."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file)
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
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
