"""What a search found, and how to train it. Torch-free."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import tomlkit

from ibllm_core.recipe.locate import Path, dotted, key_path

from . import search_space
from .directory import DONE, StudyDirectory
from .plan import Plan
from .schema import BASE
from .trials import REFUSED

if TYPE_CHECKING:
    import optuna


def winner(study: optuna.Study, plan: Plan, directory: StudyDirectory, arms: Mapping[int, str]) -> list[str]:
    """The best point beside the base, its command, and what its figure is not."""
    table, seeds = plan.study.table, plan.study.seeds
    trials = study.get_trials(deepcopy=False)
    counts = {name: sum(trial.state.name == name for trial in trials) for name in ("COMPLETE", "PRUNED", "FAIL")}
    refused = sum(REFUSED in trial.user_attrs for trial in trials)
    head = f"{len(trials)} points: {counts['COMPLETE']} run to the end, {counts['PRUNED'] - refused} given up, {counts['FAIL']} failed"
    lines = [head + (f", {refused} that cannot be built" if refused else "") + f"; for Optuna's dashboard: {search_space.url(directory)}"]
    if not counts["COMPLETE"]:
        return lines
    best = study.best_trial
    arm = arms[best.number]
    base = [directory.outcome(plan.cell(BASE, seed)) for seed in seeds]
    values = [float(outcome.results[table.decides]) for outcome in base if outcome.status == DONE and table.decides in outcome.results]
    beside = f", the base's {plan.primary.shown(math.fsum(values) / len(values))}" if len(values) == len(seeds) else ""
    split = table.decides.partition("/")[0]
    return [
        *lines,
        f"best: {arm}: {table.decides} {plan.primary.shown(best.value or 0.0)}{beside}",
        f"  {command(plan, arm)}",
        f"  Chosen as the best of {counts['COMPLETE']} on {split}, its figure is flattered; an honest one takes new seeds and a split that the search "
        "has not seen.",
    ]


def command(plan: Plan, arm: str) -> str:
    """``ibllm run`` with the arm's changes at a seed that the study does not have, and at full length where the study is scaled."""
    study = plan.study
    sets: dict[Path, Any] = {}
    for layer in (study.common, plan.cell(arm, study.seeds[0]).arm.layer):
        for path, value in _leaves(layer.data):
            sets[path] = value
    if arm in plan.knobs and study.table.budget is not None:
        sets[key_path(study.table.budget.knob) or ()] = plan.knobs[arm][0]
    words = ["ibllm", "run", study.base, "--run-dir", f"runs/{study.name}-best", "--seed", str(max(study.seeds) + 1)]
    for path, value in sets.items():
        words += ["--set", f"{dotted(path)}={tomlkit.item(value).as_string()}"]
    return shlex.join(words)


def _leaves(table: Mapping[str, Any], before: Path = ()) -> Iterable[tuple[Path, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*before, key))
        else:
            yield (*before, key), value
