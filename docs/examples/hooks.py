"""An example of every hook, as docs/reference/hooks.md shows them; together they are one plugin."""

from ibllm.plugin import ComponentSpec, hookimpl


# The whole of a module that pyproject.toml names: ``mean = "my_package.plugin"`` in ``[project.entry-points.ibllm]``.
@hookimpl
def ibllm_components():
    yield ComponentSpec(
        kind="text_encoder",
        name="mean",
        factory="my_package.text_encoder:MeanTextEncoder",
        config="my_package.config:MeanTextEncoderConfig",
        summary="mean of the embeddings",
    )


# A line before the first one.
@hookimpl
def ibllm_recipe_loaded(recipe):
    print(f"{recipe.name}: {sum(stage.steps for stage in recipe.running())} steps in all")


# The names of all parameters in a file.
@hookimpl
def ibllm_model_built(model, run_directory):
    (run_directory / "parameters.txt").write_text("\n".join(name for name, _ in model.named_parameters()))


# What is trained when.
@hookimpl
def ibllm_stage_started(stage, step, run_directory):
    with (run_directory / "stages.txt").open("a") as file:
        file.write(f"{stage.name} from step {step}: {', '.join(stage.train)}\n")


# The norm of the weights, now and then.
@hookimpl
def ibllm_step_ended(stage, step, model, run_directory):
    if step % 100 == 1:
        norm = sum(float(p.detach().square().sum()) for p in model.parameters()) ** 0.5
        with (run_directory / "norms.csv").open("a") as file:
            file.write(f"{stage.name},{step},{norm:.4f}\n")


# A list of improvements.
@hookimpl
def ibllm_validation_ended(stage, step, figures, best, run_directory):
    if best:
        with (run_directory / "improvements.txt").open("a") as file:
            file.write(f"{stage.name} {step}: {dict(figures)}\n")


# A copy of the weights after each stage.
@hookimpl
def ibllm_stage_ended(stage, model, run_directory):
    from safetensors.torch import save_file

    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    save_file(weights, run_directory / f"after-{stage.name}.safetensors")


# A line in a list of runs, and a table in the report (`Panel` is of ``ibllm.plugin``, too).
@hookimpl
def ibllm_run_ended(recipe, figures, panels, model, run_directory):
    with (run_directory.parent / "runs.txt").open("a") as file:
        file.write(f"{run_directory.name} ({recipe.name}): {len(figures)} figures\n")
    from ibllm.plugin import Panel

    rows = [(name, float(p.detach().norm())) for name, p in model.named_parameters()]
    panels.append(Panel(title="Norms", header=("parameter", "norm"), rows=rows, place="training"))


# A message to whoever waits.
@hookimpl
def ibllm_error(recipe, error, run_directory):
    print(f"{recipe.name} failed in {run_directory}: {error}")
