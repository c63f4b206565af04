"""``design = "search"``: points on the axes, chosen by Optuna, each an arm that runs at every seed.

The database says which points there are and what they are worth; the study directory holds their runs. Neither is ever ahead of the other by more
than what is repaired at the next start, so a search may be killed at any time.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from ibllm_core.errors import UserError
from ibllm_core.recipe.locate import RecipeErrors
from ibllm_core.recipe.words import written

from . import search_space
from .best_arm import winner
from .directory import DONE, FAILED, PRUNED, WAITING, StudyDirectory
from .intermediate import Figures, pruning
from .plan import Cell, Plan
from .runner import Runner
from .schema import BASE
from .trials import ARM, KNOB, REASON, REFUSED, RETRIES, SEEDS, Trials

if TYPE_CHECKING:
    import optuna

#: After so many points of which none could be built, it is the axes that are wrong.
HOPELESS = 10


def explore(plan: Plan, directory: StudyDirectory, runner: Runner) -> Plan:
    """Runs the base and the points of the search until there are as many as the study says; returns the plan with all of them.

    Raises:
        UserError: Optuna is not installed, the directory's database is of another search, or no point can be built.
    """
    with search_space.storage(plan, directory) as study:
        search = _Exploration(study, plan, directory, runner)
        runner.run(also=search.look)
        if not runner.stopped:
            for line in winner(study, search.points.plan, directory, search.points.arms):
                runner.watcher.say(line)
        return search.points.plan


class _Exploration:
    """A search under way."""

    def __init__(self, study: optuna.Study, plan: Plan, directory: StudyDirectory, runner: Runner) -> None:
        self.study, self.directory, self.runner = study, directory, runner
        self.points = Trials(plan)
        self.open: dict[int, optuna.Trial] = {}
        self.reported: dict[int, set[int]] = {}
        self.full = False
        self.figures = Figures(plan, directory)
        search = plan.study.table.search
        assert search is not None
        self.search = search
        study.pruner = search_space.pruner(search)
        self.refusals: list[str] = []
        prunes, why = pruning(plan)
        if search.pruner != "none" and not prunes:
            runner.watcher.say(why)
        self._recover()
        # Before the base is run, so that axes which lead nowhere are said at once.
        while not self.open and self._ask():
            pass

    def look(self) -> bool:
        """Follows the open trials and opens others while workers are idle; False once all are done."""
        for number in list(self.open):
            self._follow(number)
        if self.runner.stopped:
            return False
        # A second trial of an arm that is still running would only wait for it, and the next one perhaps too.
        while self.runner.spare > 0 and len(self.open) == len({self.points.arms[number] for number in self.open}):
            if self.full and self.open:
                break
            self._adopt()
            if self.runner.spare <= 0 or not self._ask():
                break
        return bool(self.open)

    def _recover(self) -> None:
        """Goes on with what another process left: open trials are followed, and what was reported is not run."""
        trials = self.study.get_trials(deepcopy=False)
        self.points.load(trials)
        self._planned()
        self._adopt()
        running = {self.points.arms[number] for number in self.open}
        for trial in trials:
            arm = self.points.arms.get(trial.number)
            if trial.state.name in ("PRUNED", "FAIL") and arm is not None and arm not in running and arm != BASE:
                self._end(trial.number, "its trial had ended")

    def _adopt(self) -> None:
        """Follows open trials of the database: those of a process that was killed, or of another invocation."""
        import optuna

        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            if trial.number not in self.open:
                self.reported[trial.number] = set(trial.intermediate_values)
                self._open(optuna.trial.Trial(self.study, trial._trial_id))

    def _ask(self) -> bool:
        """Opens another trial; False where there are enough."""
        trials = self.study.get_trials(deepcopy=False)
        # Points that cannot be built cost nothing, and failed ones are replaced by what tries them again.
        free = min(self.search.trials, sum(REFUSED in trial.user_attrs for trial in trials))
        free += sum(RETRIES in trial.user_attrs for trial in trials)
        if len(trials) - free >= self.search.trials:
            self.full = True
            return False
        self.study.sampler = search_space.sampler(self.search, len(trials))
        self._open(self.study.ask())
        return True

    def _open(self, trial: optuna.Trial) -> None:
        search_space.suggest(trial, self.points.plan.study)
        try:
            new = self.points.add(trial, _check)
        except UserError as error:
            self._refuse(trial, error)
            return
        arm = self.points.arms[trial.number]
        trial.set_user_attr(ARM, arm)
        if arm in self.points.plan.knobs:
            trial.set_user_attr(KNOB, list(self.points.plan.knobs[arm]))
        self.open[trial.number] = trial
        if new:
            self._planned()
        self._follow(trial.number)

    def _refuse(self, trial: optuna.Trial, error: UserError) -> None:
        reason = _one_line(error)
        trial.set_user_attr(REFUSED, reason)
        # Pruned rather than failed: samplers learn from the former only, and these are points to keep away from.
        self._tell(trial.number, "PRUNED")
        point = ", ".join(f"{key} = {written(value)}" for key, value in trial.params.items())
        self.runner.watcher.say(f"#{trial.number} {point}: cannot be built: {reason}")
        self.refusals.append(reason)
        if len(self.refusals) >= HOPELESS and not self.points.arms:
            raise UserError(f"none of the first {HOPELESS} points can be built; the last one: {reason}")

    def _planned(self) -> None:
        self.directory.prepare(self.points.plan)
        self.runner.add(self.points.plan)

    def _follow(self, number: int) -> None:
        """Tells the database what is new of a trial."""
        cells = self.points.cells(number)
        outcomes = [self.runner.outcomes[cell.id] for cell in cells]
        primary = self.points.plan.study.table.decides
        late = self._report(number, cells)
        for cell, outcome in zip(cells, outcomes, strict=True):
            if outcome.status in (FAILED, PRUNED):
                self._give_up(number, "FAIL" if outcome.status == FAILED else "PRUNED", f"seed {cell.seed}: {outcome.reason}")
                return
        values = [float(outcome.results.get(primary, math.nan)) for outcome in outcomes if outcome.status == DONE]
        if not all(map(math.isfinite, values)):
            self._give_up(number, "FAIL", f"a run gave no {primary}")
            return
        if len(values) == len(cells):
            mean = math.fsum(values) / len(values)
            with self._ignoring_finished_trials():
                self.open[number].set_user_attr(SEEDS, values)
            self._tell(number, "COMPLETE", mean)
            self.runner.watcher.say(
                f"{self._title(number)}: {primary} {self.points.plan.primary.shown(mean)}, the mean over {len(values)} seed{'s'[: len(values) > 1]}"
            )
        elif late:
            self._give_up(number, "PRUNED", late)

    def _report(self, number: int, cells: list[Cell]) -> str:
        """Hands on the validations of a trial; why it is to be given up, or nothing."""
        trial, late = self.open[number], ""
        reported = self.reported.setdefault(number, set())
        for step, value, words in self.figures.means(cells):
            if step in reported:
                continue
            reported.add(step)
            with self._ignoring_finished_trials():
                trial.report(value, step)
                if trial.should_prune():
                    late = f"{words}: {self.points.plan.primary.shown(value)}; worse than the median of the others"
        return late

    def _give_up(self, number: int, state: str, reason: str) -> None:
        with self._ignoring_finished_trials():
            self.open[number].set_user_attr(REASON, reason)
        title = self._title(number)
        # The database first: what is reported there is not run again (`_recover`), however this ends.
        self._tell(number, state)
        self._end(number, reason)
        self.runner.watcher.say(f"{title}: {'failed' if state == 'FAIL' else 'given up'}: {reason}")

    def _end(self, number: int, reason: str) -> None:
        """Ends what still runs or waits of a trial, unless another one needs it."""
        needed = {self.points.arms[other] for other in self.open} | {BASE}
        for cell in self.points.cells(number):
            if cell.arm.name not in needed and self.runner.outcomes.setdefault(cell.id, self.directory.outcome(cell)).status == WAITING:
                self.runner.give_up(cell, reason)

    def _tell(self, number: int, state: str, value: float | None = None) -> None:
        import optuna

        self.study.tell(number, value, state=optuna.trial.TrialState[state], skip_if_finished=True)
        self.open.pop(number, None)

    def _title(self, number: int) -> str:
        arm = self.points.arms[number]
        return arm if arm.startswith(f"#{number} ") else f"#{number}, the same as {arm}"

    @staticmethod
    def _ignoring_finished_trials() -> contextlib.AbstractContextManager[None]:
        """Another invocation may have finished a trial: Optuna's UpdateFinishedTrialError, a mere RuntimeError in its earlier versions."""
        return contextlib.suppress(RuntimeError)


def _check(cell: Cell) -> None:
    from ibllm.contracts import check

    check(cell.recipe)


def _one_line(error: UserError) -> str:
    if not isinstance(error, RecipeErrors):
        return str(error).splitlines()[0]
    mistake = error.mistakes[0]
    return ": ".join(part for part in (mistake.place.key, mistake.what) if part) + (
        f"; expected {mistake.expected}" if mistake.expected else ""
    )
