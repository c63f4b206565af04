"""A search as Optuna sees it: its axes, its database, how it samples and prunes. Optuna is an extra (``ibllm[search]``)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ibllm_core.errors import UserError
from ibllm_core.recipe.words import written

from .directory import StudyDirectory
from .plan import Plan
from .schema import BASE, Axis, Search, Study

if TYPE_CHECKING:
    import optuna

#: The database of a search, in its study directory.
FILE = "search.db"
#: What the database says the search is of; it goes on only as the same search.
OF = "ibllm"
#: Seconds to wait for a database that another process is writing to.
PATIENCE = 60


def database(directory: StudyDirectory) -> Path:
    return directory / FILE


def url(directory: StudyDirectory) -> str:
    """The database as Optuna and its dashboard name it."""
    return f"sqlite:///{database(directory)}"


@contextmanager
def storage(plan: Plan, directory: StudyDirectory) -> Iterator[optuna.Study]:
    """The search's database, made where there is none.

    Raises:
        UserError: Optuna is not installed, the file is no database of its, or it holds another search than the plan's.
    """
    _need_optuna()
    import optuna
    from filelock import FileLock
    from sqlalchemy.exc import SQLAlchemyError

    for axis in plan.study.axes:
        choices(axis)
    lock, held = directory.lock("search"), None
    lock.parent.mkdir(exist_ok=True)
    try:
        # Of two that make the tables at once, one would fail.
        with FileLock(lock, timeout=PATIENCE):
            held = optuna.storages.RDBStorage(url(directory), engine_kwargs={"connect_args": {"timeout": PATIENCE}})
            found = optuna.create_study(
                study_name=plan.study.name,
                storage=held,
                direction="maximize" if plan.mode == "max" else "minimize",
                load_if_exists=True,
            )
            _check_same(found, plan, directory)
        yield found
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise UserError(f"{database(directory)} cannot be used: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        # Optuna's word for a database of another version.
        if "optuna" not in str(error).lower():
            raise
        raise UserError(f"{database(directory)}: {error}") from error
    finally:
        if held is not None:
            held.remove_session()


def _need_optuna() -> None:
    try:
        import optuna
    except ImportError as error:
        raise UserError('design = "search" needs Optuna: pip install "ibllm[search]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _check_same(found: optuna.Study, plan: Plan, directory: StudyDirectory) -> None:
    """Values of another search say nothing about this one. More trials are the same search; so is another sampler or pruner."""
    table = plan.study.table
    ours = {
        "axes": {axis.key: str(axis) for axis in plan.study.axes},
        "seeds": list(plan.study.seeds),
        "primary": table.decides,
        "mode": plan.mode,
        "budget": str(table.budget),
        "base recipe or versions": plan.cell(BASE, plan.study.seeds[0]).key,
    }
    theirs = found.user_attrs.get(OF)
    if theirs is None:
        found.set_user_attr(OF, ours)
        with warnings.catch_warnings():
            # Long there and still called experimental; it names the axis in Optuna's plots, no more.
            warnings.simplefilter("ignore")
            found.set_metric_names([table.decides])
    elif theirs != ours:
        other = ", ".join(name for name in ours if ours[name] != theirs.get(name))
        raise UserError(
            f"{database(directory)} is a search with other {other}; its points cannot be compared with this one's; choose another place "
            "(--study-dir DIR) or set back what was changed"
        )


def suggest(trial: optuna.Trial, study: Study) -> None:
    """Gives the trial a value on every axis; where it has one, that stays (it is in the database)."""
    for axis in study.axes:
        if axis.range is None:
            trial.suggest_categorical(axis.key, list(choices(axis)))
        elif axis.range.whole:
            trial.suggest_int(axis.key, int(axis.range.low), int(axis.range.high), step=int(axis.range.step or 1), log=axis.range.log)
        else:
            step = None if axis.range.step is None else float(axis.range.step)
            trial.suggest_float(axis.key, float(axis.range.low), float(axis.range.high), step=step, log=axis.range.log)


def changes(study: Study, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as the changes of an arm."""
    found = {}
    for axis in study.axes:
        value = parameters[axis.key]
        found[axis.key] = value if axis.range is not None else choices(axis)[value]
    return found


def choices(axis: Axis) -> Mapping[Any, Any]:
    """An axis's values by what Optuna calls them: numbers, texts and booleans as they are, tables and lists as a recipe writes them.

    Raises:
        UserError: two values are the same.
    """
    plain = all(isinstance(value, str | int | float) for value in axis.values)
    # To Python, True and 1.0 are 1.
    named = plain and len(set(axis.values)) == len(axis.values)
    found = {value if named else written(value): value for value in axis.values}
    if len(found) < len(axis.values):
        raise UserError(f"{axis.key}: a value is there twice; expected each value once", axis.place)
    return found


def sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """What chooses point `number`. Seeded for each point, so that a search that was interrupted goes on as it would have."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=search.startup)


def pruner(search: Search) -> optuna.pruners.BasePruner:
    from optuna.pruners import MedianPruner, NopPruner

    return MedianPruner(n_startup_trials=search.startup) if search.pruner == "median" else NopPruner()
