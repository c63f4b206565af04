"""Every run's report, written when the run has ended, well or not."""

from __future__ import annotations

from ibllm_core.training.events import Listener, RunClosed


class Report(Listener):
    """Renders report.html when nothing else is written any more: of a run that was interrupted or failed, too."""

    def on_run_closed(self, event: RunClosed) -> None:
        from .page import render

        render(event.run_directory)
