"""Every run's report and table of figures, written when the run has ended, well or not, and once before its first step.

What metrics say against figures of theirs is told in the end, so that run.json has it among the run's notices.
"""

from __future__ import annotations

from ibllm_cli.terminal import shown
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.events import Listener, Prepared, Rehearsed, RunClosed, RunEnded, RunStarted


class Report(Listener):
    """Keeps the panels and renders report.html when nothing else is written any more: of a run that was interrupted or failed, too."""

    def on_run_started(self, event: RunStarted) -> None:
        self._directory = RunDirectory(event.run_directory)

    def on_prepared(self, event: Prepared) -> None:
        self._tell = event.session.tell

    def on_rehearsed(self, event: Rehearsed) -> None:
        from .page import render
        from .panels import write_panels

        write_panels(event.run_directory, event.panels)
        render(event.run_directory)

    def on_run_ended(self, event: RunEnded) -> None:
        from ibllm.glossary import cautions

        from .files import records_of
        from .panels import write_panels

        write_panels(self._directory.path, event.panels)
        found = [said for record in records_of(self._directory.info()) for said in cautions(record).items()]
        for figure, caution in dict.fromkeys(found):
            self._tell(f"{figure} is {caution}")

    def on_run_closed(self, event: RunClosed) -> None:
        from .files import read
        from .page import render
        from .results_table import results_table

        path = render(event.run_directory)
        if event.status == "done":
            files = read(event.run_directory)
            event.closing.extend([results_table(files.results, files.glossary), f"report   {shown(path)}"])
