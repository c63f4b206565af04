"""What a plugin may implement: the one question it answers, and what it can listen to while a run goes on. Torch-free.

The lifecycle hooks are called in a run whose recipe names the plugin, by a component or in ``[plugins] hooks``, and in no other. They run in the first
process only, may take fewer arguments than are offered, and are there to look on: what they are handed is not to be changed, what they return is
ignored. One that raises is named in a warning and in run.json and not called again; the run goes on. The seconds that a plugin's hooks take stand
among the run's timings as ``hooks/PLUGIN``. What they print goes to standard error, under the plugin's name. A run that is resumed calls them again
from where it goes on.

Args:
    recipe: the resolved recipe.
    model: its parts are ``model.parts[NAME]``; while training goes on, with the weights that are trained, not their average.
    run_directory: a `Path`; hooks may add files of their own.
    stage: the stage's table.
    step: steps of the stage that are done.
    figures: name → value.
    best: True where the watched figure is the stage's best so far.
    error: what ended the run.
    panels: what the report will show besides, a list to which `Panel`s may be appended.

An example of each is in ``docs/examples/hooks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from .spec import ComponentSpec

if TYPE_CHECKING:
    from ..interfaces.reporting import Panels
    from ..model.model import Model
    from ..recipe.schema import Recipe, Stage

PROJECT = "ibllm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PluginDeprecationWarning(FutureWarning):
    """A plugin uses what a later ibllm will not have. Shown by default: who runs the plugin has to know before it stops working."""


def retires(what: str, instead: str, api: int) -> PluginDeprecationWarning:
    """The warning for `what`, which plugins of interface version `api` and later may not use; `instead` says what to do.

    A retired hook is marked ``@hookspec(warn_on_impl=retires(…))``, an argument ``@hookspec(warn_on_impl_args={"argument": retires(…)})``.
    """
    return PluginDeprecationWarning(f"{what} goes with version {api} of the plugin interface; {instead}")


@hookspec
def ibllm_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components that a plugin offers."""


@hookspec
def ibllm_recipe_loaded(recipe: Recipe) -> None:
    """A run is about to start: its recipe has been read, and nothing has been built or written."""


@hookspec
def ibllm_model_built(recipe: Recipe, model: Model, run_directory: Path) -> None:
    """All parts are built and on their device, and the run directory is there; nothing has been trained in this process."""


@hookspec
def ibllm_stage_started(recipe: Recipe, stage: Stage, step: int, model: Model, run_directory: Path) -> None:
    """A stage starts, or goes on after a restart; `step` is 0 but then."""


@hookspec
def ibllm_step_ended(recipe: Recipe, stage: Stage, step: int, model: Model, run_directory: Path) -> None:
    """A step is done. The device has not been waited for: a hook that reads a tensor waits for it, and a run's pace is the hook's then.

    `step` counts from 1; parameters have the step's ``grad``.
    """


@hookspec
def ibllm_validation_ended(
    recipe: Recipe, stage: Stage, step: int, figures: Mapping[str, float], best: bool, model: Model, run_directory: Path
) -> None:
    """A validation on held-out data is done; ``stage.validate`` says what was looked at."""


@hookspec
def ibllm_stage_ended(recipe: Recipe, stage: Stage, step: int, figures: Mapping[str, float], model: Model, run_directory: Path) -> None:
    """A stage is done and its checkpoint written.

    `step` is less than ``stage.steps`` where it stopped early; `figures` are ``SPLIT/FIGURE`` → value on the reported splits, and empty after
    the last stage, whose figures are the run's.
    """


@hookspec
def ibllm_run_ended(recipe: Recipe, figures: Mapping[str, float], panels: Panels, model: Model, run_directory: Path) -> None:
    """The run is done: model folder, figures and samples are written; the report follows. `figures` are those of results.json."""


@hookspec
def ibllm_error(recipe: Recipe, error: BaseException, run_directory: Path) -> None:
    """An error ends the run, which the hook cannot change; Ctrl-C is none. The directory is not there where the recipe could not be built."""
