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

Every example begins with ``from ibllm.plugin import ComponentSpec, hookimpl``.
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


@hookspec
def ibllm_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components that a plugin offers.

    Example, the whole of a module that pyproject.toml names: ``mean = "my_package.plugin"`` in ``[project.entry-points.ibllm]``::

        @hookimpl
        def ibllm_components():
            yield ComponentSpec(
                kind="text_encoder",
                name="mean",
                factory="my_package.text_encoder:MeanTextEncoder",
                config="my_package.config:MeanTextEncoderConfig",
                summary="mean of the embeddings",
            )
    """


@hookspec
def ibllm_recipe_loaded(recipe: Recipe) -> None:
    """A run is about to start: its recipe has been read, and nothing has been built or written.

    Example, a line before the first one::

        @hookimpl
        def ibllm_recipe_loaded(recipe):
            print(f"{recipe.name}: {sum(stage.steps for stage in recipe.running())} steps in all")
    """


@hookspec
def ibllm_model_built(recipe: Recipe, model: Model, run_directory: Path) -> None:
    """All parts are built and on their device, and the run directory is there; nothing has been trained in this process.

    Example, the names of all parameters in a file::

        @hookimpl
        def ibllm_model_built(model, run_directory):
            (run_directory / "parameters.txt").write_text("\\n".join(name for name, _ in model.named_parameters()))
    """


@hookspec
def ibllm_stage_started(recipe: Recipe, stage: Stage, step: int, model: Model, run_directory: Path) -> None:
    """A stage starts, or goes on after a restart; `step` is 0 but then.

    Example, what is trained when::

        @hookimpl
        def ibllm_stage_started(stage, step, run_directory):
            with (run_directory / "stages.txt").open("a") as file:
                file.write(f"{stage.name} from step {step}: {', '.join(stage.train)}\\n")
    """


@hookspec
def ibllm_step_ended(recipe: Recipe, stage: Stage, step: int, model: Model, run_directory: Path) -> None:
    """A step is done. The device has not been waited for: a hook that reads a tensor waits for it, and a run's pace is the hook's then.

    `step` counts from 1; parameters have the step's ``grad``.

    Example, the norm of the weights, now and then::

        @hookimpl
        def ibllm_step_ended(stage, step, model, run_directory):
            if step % 100 == 1:
                norm = sum(float(p.detach().square().sum()) for p in model.parameters()) ** 0.5
                with (run_directory / "norms.csv").open("a") as file:
                    file.write(f"{stage.name},{step},{norm:.4f}\\n")
    """


@hookspec
def ibllm_validation_ended(
    recipe: Recipe, stage: Stage, step: int, figures: Mapping[str, float], best: bool, model: Model, run_directory: Path
) -> None:
    """A validation on held-out data is done; ``stage.validate`` says what was looked at.

    Example, a list of improvements::

        @hookimpl
        def ibllm_validation_ended(stage, step, figures, best, run_directory):
            if best:
                with (run_directory / "improvements.txt").open("a") as file:
                    file.write(f"{stage.name} {step}: {dict(figures)}\\n")
    """


@hookspec
def ibllm_stage_ended(recipe: Recipe, stage: Stage, step: int, figures: Mapping[str, float], model: Model, run_directory: Path) -> None:
    """A stage is done and its checkpoint written.

    `step` is less than ``stage.steps`` where it stopped early; `figures` are ``SPLIT/FIGURE`` → value on the reported splits, and empty after
    the last stage, whose figures are the run's.

    Example, a copy of the weights after each stage::

        @hookimpl
        def ibllm_stage_ended(stage, model, run_directory):
            from safetensors.torch import save_file

            weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
            save_file(weights, run_directory / f"after-{stage.name}.safetensors")
    """


@hookspec
def ibllm_run_ended(recipe: Recipe, figures: Mapping[str, float], panels: Panels, model: Model, run_directory: Path) -> None:
    """The run is done: model folder, figures and samples are written; the report follows. `figures` are those of results.json.

    Example, a line in a list of runs, and a table in the report (`Panel` is of ``ibllm.plugin``, too)::

        @hookimpl
        def ibllm_run_ended(recipe, figures, panels, model, run_directory):
            with (run_directory.parent / "runs.txt").open("a") as file:
                file.write(f"{run_directory.name} ({recipe.name}): {len(figures)} figures\\n")
            from ibllm.plugin import Panel

            rows = [(name, float(p.detach().norm())) for name, p in model.named_parameters()]
            panels.append(Panel(title="Norms", header=("parameter", "norm"), rows=rows, place="training"))
    """


@hookspec
def ibllm_error(recipe: Recipe, error: BaseException, run_directory: Path) -> None:
    """An error ends the run, which the hook cannot change; Ctrl-C is none. The directory is not there where the recipe could not be built.

    Example, a message to whoever waits::

        @hookimpl
        def ibllm_error(recipe, error, run_directory):
            print(f"{recipe.name} failed in {run_directory}: {error}")
    """
