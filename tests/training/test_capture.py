"""Captured iterations: replayed they do what eager ones do, bit for bit; others are said. A recorder of operations stands in for a card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_testing import recording
from torch import Tensor

from ibllm import capture, course
from ibllm_core.errors import Notice
from ibllm_core.interfaces.optimisation import Iteration, Procedure
from ibllm_core.model.stage import StageTrainer
from ibllm_core.recipe import Recipe
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.runs.model_folder import WEIGHTS, read_weights
from ibllm_core.training.events import Listener, Stepped
from ibllm_core.training.job import Interrupted, Job
from ibllm_core.training.session import Session

from .conftest import TINY, invoke


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind is captured when it comes for the second time."""
    monkeypatch.setattr(capture, "_EAGER", 1)


def play(
    recipe: Recipe, path: Path, stage: str, captured: bool, change: Callable[[StageTrainer], None] = lambda trainer: None, steps: int = 9
) -> Any:
    """Trains a stage for some steps; gives its weights, what it logged, and the trainer."""
    session = Session(recipe, RunDirectory(path))
    trainer = session.trainer(recipe.stages[stage])
    change(trainer)
    if session.model.device.type != "cuda":
        recording.rates_on_the_device(trainer)
    trainer.replays = recording.captured(trainer, session.tell) if captured else None
    course.arrange(session, trainer, recipe)
    feeder = session.feeder(trainer.stage)
    try:
        for _ in range(steps):
            micro = feeder.make(trainer.step)
            trainer.iterate([batch.padded(session.model.tokenizers, 32) for batch in micro])
    finally:
        feeder.close()
    state = [t.detach().clone() for t in (*session.model.state_dict().values(), *session.average.weights.values())]
    return state, trainer.read(), trainer, session


def told(tiny: Any, path: Path, stage: str, *sets: str, change: Callable[[StageTrainer], None] = lambda trainer: None) -> str:
    """The one notice of a stage that is not captured, and whose steps are eager."""
    with pytest.warns(Notice):
        _, _, trainer, session = play(tiny(*sets), path / "captured", stage, True, change, steps=3)
    assert trainer.replays.described() == {"captured": 0, "replayed": 0}
    (notice,) = session.notices
    assert "stage" in notice and "runs eager: " in notice
    return notice.partition("runs eager: ")[2]


def alike(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


CASES = {
    "one player, text": ("text", ()),
    "critic, lazy penalty": ("image", ()),
    "everything, a weight that changes": (
        "joint",
        ("losses.joint.lambda={from=0.1,to=0.9,over=10}", "losses.cycle.weight={from=0.0,to=1.0,over=8}", "schedule.use=cosine"),
    ),
    "micro-batches": ("joint", ("training.accumulate=2",)),
    "extragradient": ("image", ("stages.image.procedure.use=extragradient",)),
    "perturbed images": ("image", ("stages.image.perturb={use='pgd',epsilon={from=0.0,to=0.1,over=8},steps=2,share=0.5}",)),
    "perturbed texts": ("text", ("stages.text.perturb={use='apgd',epsilon=0.5,steps=2,of='text',against='drawing'}",)),
    "lookahead": ("image", ("stages.image.procedure={use='lookahead',every=2}",)),
}


@pytest.mark.parametrize(("stage", "sets"), CASES.values(), ids=CASES.keys())
def test_replayed_iterations_are_those_that_are_eager(tiny, tmp_path: Path, stage: str, sets: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny(*sets)
    eager, figures, _, _ = play(recipe, tmp_path / "eager", stage, False)
    found, seen, trainer, session = play(recipe, tmp_path / "captured", stage, True)
    assert not session.notices
    assert trainer.replays.described()["replayed"] >= 2
    assert seen == pytest.approx(figures, rel=1e-6)
    assert alike(found, eager)


def multiplied(by: Callable[[StageTrainer, Any], Any]) -> Callable[[StageTrainer], None]:
    """Has a stage's loss multiplied by something."""

    def change(trainer: StageTrainer) -> None:
        loss = trainer.losses["image_nll"]
        forward = type(loss).forward
        loss.forward = lambda cycle: forward(loss, cycle) * by(trainer, cycle)  # type: ignore[method-assign]

    return change


def test_what_is_computed_on_the_host_is_found_by_the_first_replay(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    change = multiplied(lambda trainer, cycle: 1.0 + trainer.step)
    why = told(tiny, tmp_path, "text", change=change)
    assert why == "a replayed iteration does not do what an eager one does: something in it was computed on the host"
    # The iterations until then, the compared one too, were those that are eager.
    eager, figures, _, _ = play(tiny(), tmp_path / "eager", "text", False, change, steps=4)
    with pytest.warns(Notice):
        found, seen, _, _ = play(tiny(), tmp_path / "again", "text", True, change, steps=4)
    assert alike(found, eager) and seen == figures


def test_a_loss_that_asks_for_the_step_is_told_what_to_ask_for(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    why = told(tiny, tmp_path, "text", change=multiplied(lambda trainer, cycle: 1.0 + cycle.step))
    assert "expected Cycle.at" in why
    recipe, ramp = tiny(), multiplied(lambda trainer, cycle: cycle.at(lambda step: 1.0 + step))
    eager, _, _, _ = play(recipe, tmp_path / "at-eager", "text", False, ramp)
    found, _, trainer, _ = play(recipe, tmp_path / "at", "text", True, ramp)
    assert alike(found, eager) and trainer.replays.described()["replayed"] > 0


def test_a_loss_that_reads_a_number_from_the_device_runs_eager(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    why = told(tiny, tmp_path, "text", change=multiplied(lambda trainer, cycle: 1.0 + (cycle.y.mean().item() > 0)))
    assert "waits for the device" in why


def test_a_part_that_draws_from_the_global_generator_runs_eager(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    why = told(tiny, tmp_path, "text", change=multiplied(lambda trainer, cycle: 1.0 + torch.rand(())))
    assert why == "losses.image_nll draws from torch's global generator"


def test_a_part_that_replaces_a_buffer_runs_eager(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def counting(trainer: StageTrainer) -> None:
        part = trainer.model.parts["image_decoder"]
        part.register_buffer("passes", torch.zeros((), device=trainer.model.device))

        def count(module: Any, given: Any) -> None:
            module.passes = module.passes + 1

        trainer.model.parts["text_encoder"].register_forward_pre_hook(lambda module, given: count(part, given))

    assert "puts another tensor in the place of a buffer" in told(tiny, tmp_path, "text", change=counting)


def test_an_optimizer_whose_rate_is_a_number_of_the_host_runs_eager(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def of_the_host(trainer: StageTrainer) -> None:
        first = type(trainer.players[0].optimizer).step
        optimizer = trainer.players[0].optimizer

        def step(*given: Any) -> None:
            optimizer.param_groups[0]["lr"] = float(optimizer.param_groups[0]["lr"])
            first(optimizer)

        optimizer.step = step  # type: ignore[method-assign]

    assert "does not read its rate on the device" in told(tiny, tmp_path, "text", change=of_the_host)


def test_a_procedure_that_does_not_say_what_it_plays_alike_runs_eager(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def own(trainer: StageTrainer) -> None:
        class Own(Procedure):
            def iterate(self, iteration: Iteration) -> None:
                super().iterate(iteration)

        trainer.procedure = Own()

    assert "Procedure.alike" in told(tiny, tmp_path, "text", change=own)


def test_batches_of_too_many_shapes_run_eager(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(capture, "_MOST", 0)
    assert "kinds of iteration" in told(tiny, tmp_path, "text")


def test_a_run_on_a_device_without_graphs_says_so(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        invoke(
            "run", TINY, "--run-dir", tmp_path / "run", "--set", "compute.graphs=true", "--set", "compute.device=cpu",
            "--set", "stages.image.steps=0", "--set", "stages.joint.steps=0", "--set", "stages.text.steps=1", "--set", "stages.text.validate.every=0",
        )  # fmt: skip
    notice = "compute.graphs: device cpu has no CUDA graphs; iterations are eager"
    assert any(str(one.message) == notice for one in said)
    assert notice in json.loads((tmp_path / "run" / "run.json").read_text())["notices"]


def test_without_memory_to_compare_a_stage_runs_eager(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def none(captures: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(capture.Captures, "_copied", none)
    why = told(tiny, tmp_path, "text")
    assert why.endswith("OutOfMemoryError: CUDA out of memory.")


def test_a_log_that_the_host_computed_is_not_replayed(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def counting(trainer: StageTrainer, cycle: Any) -> float:
        cycle.log("step", float(trainer.step))
        return 1.0

    why = told(tiny, tmp_path, "text", change=multiplied(counting))
    assert why.startswith("a replayed iteration does not log what an eager one does (loss/image_nll/step)")


def test_what_a_validation_has_steered_is_captured_anew(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A composite of another package may read `balance` as a number of the host."""
    number = multiplied(lambda trainer, cycle: trainer.losses["image_nll"].balance)

    def steered(trainer: StageTrainer) -> None:
        number(trainer)
        iterate = trainer.iterate

        def once(micro: Any) -> None:
            if trainer.step == 5:
                trainer.losses["image_nll"].balance = 0.25  # type: ignore[union-attr]
            iterate(micro)

        trainer.iterate = once  # type: ignore[method-assign]

    eager, _, _, _ = play(tiny(), tmp_path / "eager", "text", False, steered)
    found, _, trainer, session = play(tiny(), tmp_path / "captured", "text", True, steered)
    assert alike(found, eager) and not session.notices
    assert trainer.replays.described() == {"captured": 1, "replayed": 3}


def test_a_captured_run_that_was_stopped_and_resumed_is_the_eager_one(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    class Stopping(Listener):
        def on_stepped(self, event: Stepped) -> None:
            if event.stage.name == "image" and event.step == 5:
                stopped.stop()

    def arranged(captured: bool) -> Callable[[Session, StageTrainer], None]:
        def arrange(session: Session, trainer: StageTrainer) -> None:
            recording.rates_on_the_device(trainer)
            begin = trainer._begin
            trainer._begin = lambda micro: [batch.padded(session.model.tokenizers, 32) for batch in begin(micro)]  # type: ignore[method-assign]
            trainer.replays = recording.captured(trainer, session.tell) if captured else None

        return arrange

    recipe = tiny("compute.device=cpu", "stages.image.steps=14", "stages.joint.steps=0", "evaluation.after_stage=0")
    monkeypatch.setattr(capture, "arrange", arranged(False))
    eager = Job(recipe, tmp_path / "eager")
    eager.run()
    monkeypatch.setattr(capture, "arrange", arranged(True))
    stopped = Job(recipe, tmp_path / "captured", listeners=[Stopping()])
    with pytest.raises(Interrupted):
        stopped.run()
    Job(recipe, tmp_path / "captured").run(resume=True)
    runs = [RunDirectory(tmp_path / name) for name in ("eager", "captured")]
    first, second = (read_weights(run.model / WEIGHTS) for run in runs)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads(runs[0].results.read_text()) == json.loads(runs[1].results.read_text())
    assert all(stage["replayed"] > 0 for stage in runs[1].info()["stages"])
