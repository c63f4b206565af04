"""What data say of themselves before a run: that captions were written by a machine, for instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ibllm_core.training.events import Listener, Prepared


@runtime_checkable
class Noted(Protocol):
    """A dataset that has something to tell."""

    def notes(self) -> Sequence[str]:
        """What a user should know and nothing stops for, a sentence each."""


class DataNotes(Listener):
    """Tells what a run's datasets say of themselves; it is kept in run.json."""

    def on_prepared(self, event: Prepared) -> None:
        for dataset in (event.session.dataset, *event.session.unpaired.values()):
            for text in dataset.notes() if isinstance(dataset, Noted) else ():
                event.session.tell(text)
