"""Ends a run before anything is spent where its parts do not fit."""

from __future__ import annotations

import warnings

from ibllm_core.errors import Notice
from ibllm_core.training.distributed import first_process
from ibllm_core.training.events import Listener, Prepared, RunEnded, RunStarted

from . import check


class Contracts(Listener):
    """Checks the recipe of a run that begins; its record says what the training costs (if all its steps are done), and what is there to no purpose."""

    everywhere = True

    def on_prepared(self, event: Prepared) -> None:
        self._session = event.session

    def on_run_ended(self, event: RunEnded) -> None:
        directory, batches = self._session.directory, {stage.name: stage.training.batch for stage in self._session.recipe.running()}
        known = directory.info().get("item_flops", {})
        # Of the steps that were done: a stage may have stopped early.
        done = [(record["done"] * batches[record["name"]], known.get(record["name"])) for record in self._session.records]
        total = None if any(flops is None for _, flops in done) else sum(items * (flops or 0) for items, flops in done)
        directory.update(training_flops=total)

    def on_run_started(self, event: RunStarted) -> None:
        if event.recorded:
            return
        try:
            report = check(event.recipe)
        except (Exception, SystemExit) as error:
            event.against.append(error)
            return
        for note in report.notes() if first_process() else ():
            warnings.warn(Notice(note), stacklevel=2)
        flops = {row.stage: row.flops for row in report.stages}
        event.record.update(training_flops=report.training_flops(event.recipe), notes=report.notes(), item_flops=flops)
