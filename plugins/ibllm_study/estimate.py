"""How long a run will take, from a few steps of every stage. Torch-free until steps are run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ibllm_core.recipe.schema import Recipe, Stage

if TYPE_CHECKING:
    from ibllm.contracts import Report
    from ibllm.iterations import IterationKind
    from ibllm_core.interfaces.batch import Batch
    from ibllm_core.model.stage import StageTrainer
    from ibllm_core.training.session import Session

#: Steps of each kind whose median counts.
_STEPS = 3


def probe(recipe: Recipe) -> Mapping[str, float]:
    """Stage → seconds a step on this machine, with the recipe's threads: real steps in a temporary directory, without validation and evaluation.

    A step in which lazy losses are played costs more than others: each kind is timed by itself and counts as often as it comes.

    Raises:
        UserError: the recipe cannot be built.
    """
    from ibllm_core.model.compute import arithmetic
    from ibllm_core.runs.directory import RunDirectory
    from ibllm_core.training.session import Session

    with arithmetic(recipe.compute.precision == "tf32"), tempfile.TemporaryDirectory(prefix="ibllm-probe-") as folder:
        session = Session(recipe, RunDirectory(Path(folder)))
        return {stage.name: _seconds(session, stage, session.trainer(stage)) for stage in recipe.running()}


def _seconds(session: Session, stage: Stage, trainer: StageTrainer) -> float:
    """The mean over the stage's steps, as far as the few that are run can say."""
    from ibllm.iterations import kinds_of

    kinds = kinds_of(trainer)
    with closing(session.feeder(stage)) as feeder:
        batches = iter(feeder)
        _timed(session, trainer, batches, kinds[0])  # whatever is made at a first step
        medians = [statistics.median(_timed(session, trainer, batches, kind) for _ in range(_STEPS)) for kind in kinds]
        return sum(kind.count * median for kind, median in zip(kinds, medians, strict=True)) / sum(kind.count for kind in kinds)


def _timed(session: Session, trainer: StageTrainer, batches: Iterator[list[Batch]], kind: IterationKind) -> float:
    """Seconds that a step of the kind takes, its batch included."""
    import torch

    trainer.go_to(kind.step, kind.players)
    device = session.model.device
    started = time.perf_counter()
    trainer.iterate(next(batches))
    if torch.accelerator.is_available() and device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started


def estimate(
    recipe: Recipe, probed: Mapping[str, float], base: Recipe, report: Report | None = None, base_report: Report | None = None
) -> Mapping[str, float]:
    """Stage → seconds of training, without validation and evaluation: the base's seconds a step, scaled by FLOPs.

    Args:
        probed: what `probe` said of the base; a stage that the base does not have takes the base's mean time for a FLOP.
        report, base_report: what `contracts.check` said of the two; checked here where not given.
    """
    from ibllm.contracts import check

    costs, known = _flops(recipe, report or check(recipe)), _flops(base, base_report or check(base))
    counted = [name for name in probed if known[name]]
    pace = sum(probed[name] for name in counted) / sum(known[name] for name in counted) if counted else 0.0
    found = {}
    for stage in recipe.running():
        name, cost = stage.name, costs[stage.name]
        if name not in probed:
            step = cost * pace
        elif cost and known[name]:
            step = probed[name] * cost / known[name]
        else:  # not to be counted: a step of as many items takes as long
            step = probed[name] * stage.training.batch / base.stages[name].training.batch
        found[name] = stage.steps * step
    return found


def _flops(recipe: Recipe, report: Report) -> dict[str, float]:
    """Stage → FLOPs of a step; 0 where they cannot be counted."""
    counted = {row.stage: row.flops for row in report.stages}
    return {stage.name: float(stage.training.batch * (counted[stage.name] or 0)) for stage in recipe.running()}
