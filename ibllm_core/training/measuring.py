"""What follows the training: figures and panels."""

from __future__ import annotations

from typing import Any

import attrs

from ..host.attribution import WrongAnswer
from ..interfaces.reporting import Panel, Panels
from ..model.evaluation import records
from ..recipe.schema import Stage
from .events import Logged, Measured, Measuring
from .loop import Interrupted
from .session import Session


def measure_stage(session: Session, stage: Stage, step: int) -> dict[str, float]:
    """Figures on the reported splits after a stage that is not the last; empty where the recipe wants none."""
    plan = session.recipe.evaluation
    if plan.after_stage == 0:
        return {}
    session.bus.emit(Measuring(f"after stage {stage.name}"))
    with session.bus.clock.timed("evaluation"), session.average.used():
        measured = {split: session.measure(split, plan.after_stage)[0] for split in plan.splits}
    figures = {f"{split}/{name}": value for split, found in measured.items() for name, value in found.items()}
    session.bus.emit(Logged("stage", stage.name, step, session.step, figures))
    return figures


def measure(session: Session) -> tuple[dict[str, float], dict[str, Any], Panels]:
    """The flat table of all reported splits, how each figure was measured, and the metrics' panels."""
    plan = session.recipe.evaluation
    results: dict[str, float] = {}
    measured: dict[str, Any] = {}
    panels = Panels()

    def checkpoint() -> None:
        if session.stopping():
            raise Interrupted("stopped while measuring; the training itself is done")

    with session.average.used():
        for split in plan.splits:
            session.bus.emit(Measuring(split))
            figures, evaluation = session.measure(split, plan.items, checkpoint=checkpoint)
            results |= {f"{split}/{name}": value for name, value in figures.items()} | {f"{split}/items": float(len(evaluation))}
            measured[split] = records(session.metrics, evaluation)
            session.bus.emit(Measured(session, evaluation))
            for name, metric in session.metrics.items():
                for panel in metric.panels(evaluation):
                    if not isinstance(panel, Panel):
                        raise WrongAnswer(f"metrics.{name}", f"panels gave a {type(panel).__name__}: expected a Panel")
                    panels.append(attrs.evolve(panel, source=f"{name}, {split}"))
    return results, measured, panels
