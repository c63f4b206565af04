"""Every run's report, written when the run has ended, well or not, and once before its first step."""

from __future__ import annotations

from ibllm_core.training.events import Listener, Rehearsed, RunClosed, RunEnded, RunStarted


class Report(Listener):
    """Keeps the panels and renders report.html when nothing else is written any more: of a run that was interrupted or failed, too."""

    def on_run_started(self, event: RunStarted) -> None:
        self._run_directory = event.run_directory

    def on_rehearsed(self, event: Rehearsed) -> None:
        from .page import render
        from .panels import write_panels

        write_panels(event.run_directory, event.panels)
        render(event.run_directory)

    def on_run_ended(self, event: RunEnded) -> None:
        from .panels import write_panels

        write_panels(self._run_directory, event.panels)

    def on_run_closed(self, event: RunClosed) -> None:
        from .page import render

        render(event.run_directory)
