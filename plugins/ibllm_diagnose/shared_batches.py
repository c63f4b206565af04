"""Tells what in a stage depends on how its batches are shared between micro-batches and processes."""

from __future__ import annotations

from ibllm_core.training.events import Listener, Logged, TrainerBuilt


class SharedBatches(Listener):
    """Tells of it once, at a stage's first row of figures."""

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        self._session, self._trainer, self._told = event.session, event.trainer, False

    def on_logged(self, event: Logged) -> None:
        if event.kind != "train" or self._told:
            return
        self._told = True
        session, stage = self._session, self._trainer.stage
        found = [f"{place} draws from torch's global generator" for place in sorted(session.model.unkeyed)]
        if self._trainer.statistics and session.ranks.count * stage.training.accumulate > 1:
            found.append(f"{', '.join(self._trainer.statistics)} follow what is seen at once")
        for what in found:
            session.tell(f"stage {stage.name}: {what}: results depend on training.accumulate and the number of processes")
