"""Every run's report, written when the run has ended, well or not."""

from __future__ import annotations

from pathlib import Path

from ibllm_core.training.events import Listener, Rehearsed, RunClosed


class Report(Listener):
    """Renders report.html when nothing else is written any more: of a run that was interrupted or failed, too."""

    def on_rehearsed(self, event: Rehearsed) -> None:
        self._render(event.run_directory)

    def on_run_closed(self, event: RunClosed) -> None:
        self._render(event.run_directory)

    def _render(self, run_directory: Path) -> None:
        from .page import render

        render(run_directory)
