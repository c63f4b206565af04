"""Who is told how a run goes. The command line's display is one; the default is silent."""

from __future__ import annotations

from collections.abc import Mapping

from ..recipe.schema import Stage


class Observer:
    """Told of every event; each method may be overridden. Called from the first rank only."""

    def stage_started(self, stage: Stage, number: int, count: int, step: int) -> None:
        """Stage `number` of `count` (from 1) starts, or goes on, at `step`."""

    def stepped(self, stage: Stage, step: int) -> None:
        """`step` steps of the stage are done. Nothing has been synchronised."""

    def logged(self, stage: Stage, step: int, values: Mapping[str, float]) -> None:
        """The log line of a step."""

    def validated(self, stage: Stage, step: int, figures: Mapping[str, float], best: bool) -> None:
        """A validation is done."""

    def stage_ended(self, stage: Stage, step: int, seconds: float, figures: Mapping[str, float], note: str) -> None:
        """A stage is done; `figures` are measured on the splits that are reported."""

    def evaluating(self, what: str) -> None:
        """Something is being measured."""
