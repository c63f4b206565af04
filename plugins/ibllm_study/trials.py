"""The points of a search as arms of its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.recipe.words import written

from . import search_space
from .directory import StudyDirectory
from .plan import Cell, Plan, arm_cells
from .study_file import arm_of

if TYPE_CHECKING:
    import optuna

#: What the database says of a trial: its arm, once that is known to be one; where its knob stands; each seed's primary figure; why it was ended;
#: why it cannot be built; the failed trial that it tries again.
ARM, KNOB, SEEDS, REASON, REFUSED, RETRIES = "arm", "knob", "seeds", "reason", "refused", "retries"


@attrs.define
class Trials:
    """A plan that grows by the points of a search.

    Attributes:
        arms: trial number → its arm. Trials that come to the same recipe have the same arm.
    """

    plan: Plan
    arms: dict[int, str] = attrs.field(factory=dict)

    def add(self, trial: optuna.Trial | optuna.trial.FrozenTrial, check: Callable[[Cell], object] = lambda cell: None) -> bool:
        """Takes in a trial; True where it is new to the plan.

        Args:
            check: of the first seed's cell, before the plan has it.

        Raises:
            UserError: no recipe comes of the point.
        """
        study, number = self.plan.study, trial.number
        changes = search_space.changes(study, trial.params)
        # Compared as text too, for to Python 1 is True.
        same = next((arm.name for arm in self.plan.arms if arm.changes == changes and repr(arm.changes) == repr(changes)), None)
        if same is None:
            words = ", ".join(f"{key} = {_short(value)}" for key, value in changes.items())
            arm = arm_of(study, changes, trial.user_attrs.get(ARM, f"#{number} {words}"))
            cells, knob = arm_cells(study, arm, _knob(trial))
            same = next((arm.name for arm in self.plan.arms if self.plan.cell(arm.name, study.seeds[0]).key == cells[0].key), None)
            if same is None:
                check(cells[0])
                self.plan = self.plan.grown(arm, cells, knob)
                self.arms[number] = arm.name
                return True
        self.arms[number] = same
        return False

    def cells(self, number: int) -> list[Cell]:
        return [self.plan.cell(self.arms[number], seed) for seed in self.plan.study.seeds]

    def load(self, trials: Iterable[optuna.trial.FrozenTrial]) -> None:
        """Takes in the trials of a database."""
        for trial in trials:
            # Others cannot be built, or were not looked at before their process ended.
            if ARM in trial.user_attrs:
                self.add(trial)


def plan_from_storage(plan: Plan, directory: StudyDirectory) -> Plan:
    """The plan with all points that its search has tried so far; as it is where there is no database yet."""
    if not search_space.database(directory).exists():
        return plan
    with search_space.storage(plan, directory) as study:
        points = Trials(plan)
        points.load(study.get_trials(deepcopy=False))
    return points.plan


def retry(plan: Plan, directory: StudyDirectory) -> None:
    """Has the points whose runs failed tried again, as new trials: in the database, what is finished stays."""
    if not search_space.database(directory).exists():
        return
    with search_space.storage(plan, directory) as study:
        points = Trials(plan)
        trials = study.get_trials(deepcopy=False)
        points.load(trials)
        again = {trial.user_attrs.get(RETRIES) for trial in trials}
        for trial in trials:
            if trial.state.name == "FAIL" and trial.number in points.arms and trial.number not in again:
                # Optuna hands out what is queued first.
                study.enqueue_trial(trial.params, user_attrs={RETRIES: trial.number})
                search_space.suggest(study.ask(), plan.study)
                for cell in points.cells(trial.number):
                    directory.failure(cell).unlink(missing_ok=True)


def _knob(trial: optuna.Trial | optuna.trial.FrozenTrial) -> tuple[int, float] | None:
    held = trial.user_attrs.get(KNOB)
    return (int(held[0]), float(held[1])) if held else None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else written(value)
