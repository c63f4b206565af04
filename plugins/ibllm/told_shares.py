"""Says what of a stage depends on how its batch is shared: over micro-batches, over processes."""

from __future__ import annotations

from ibllm_core.training.events import Listener, Logged, TrainerBuilt


class ToldShares(Listener):
    """Looks once a stage has played iterations: what draws from a global generator, and what keeps statistics, shows itself then."""

    _built: TrainerBuilt | None = None

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        self._built = event

    def on_logged(self, event: Logged) -> None:
        if self._built is None or event.kind != "train":
            return
        session, trainer, self._built = self._built.session, self._built.trainer, None
        found = [f"{place} draws from torch's global generator" for place in sorted(session.model.unkeyed)]
        if trainer.statistics and session.ranks.count * trainer.stage.training.accumulate > 1:
            found.append(f"{', '.join(trainer.statistics)} follow what is seen at once")
        for what in found:
            session.tell(f"stage {trainer.stage.name}: {what}: results depend on training.accumulate and the number of processes")
