"""Numbers that follow schedules: each step, and each batch, has its own, whoever makes it, and whatever came in between."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from ibllm_testing import recording

from ibllm.blocks.layers import Dropout
from ibllm.course import Course, arrange
from ibllm.resolved import resolved
from ibllm_core.errors import UserError
from ibllm_core.recipe import Recipe
from ibllm_core.recipe import load as read
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.job import Job
from ibllm_core.training.session import Session

from .knob_ranks import SMALL, TINY
from .test_knobs import alike, stopped

#: One number of each sort that moves.
MOVES = (
    "losses.cycle.weight={from=0.0,to=0.1,over=3}",
    "losses.joint.lambda={use='cosine',value=0.5,to=0.1}",
    "stages.image.losses.adversarial={use='step',value=0.2,every=2,gamma=0.5}",
    "optimizer.lr={use='linear',value=3e-3,final=0.5}",
    "stages.text.lr={use='piecewise',at=[0,3],values=[1.0,0.1]}",
    "training.clip={use='piecewise',at=[0,2,4],values=[1.0,0.2,0.5],between='lines'}",
    "training.ema={use='constant',value=0.8}",
    "model.text_encoder.dropout={from=0.0,to=0.4,over=4}",
    "model.text_decoder.word_dropout={use='piecewise',at=[0,8],values=[0.0,0.4],of_run=true}",
    "data.jitter={from=0.0,to=1.0,over=5}",
)
MORE = {"from": 1.0, "to": None, "over": 0}


def load(*sets: str) -> Recipe:
    return read(TINY, (*SMALL, *sets))


def test_a_recipe_at_a_step_has_the_schedules_values() -> None:
    recipe = load(*MOVES)
    text, joint = (Course(recipe, recipe.stages[name]) for name in ("text", "joint"))
    assert text.at(1).losses["cycle"].weight == pytest.approx(0.1 / 3)
    assert text.at(5).losses["cycle"].weight == 0.1
    assert joint.at(2).losses["joint"].component.config.lambda_ == pytest.approx(0.1 * 0.5 + 0.45 * (1 + math.cos(math.pi / 2)) / 2)  # type: ignore[attr-defined]
    assert text.at(2).players["model"].optimizer.config.lr == pytest.approx(3e-3 * (1 - 0.5 * 2 / 6))  # type: ignore[attr-defined]
    assert [text.at(step).stages["text"].training.clip for step in (0, 1, 2, 3)] == pytest.approx([1.0, 0.6, 0.2, 0.35])
    assert [text.at(step).stages["text"].lr for step in (2, 3)] == [1.0, 0.1]
    # The steps of the run, not of the stage: the image stage's third step is the run's ninth.
    words = [Course(recipe, recipe.stages["image"]).at(step).parts["text_decoder"].config.word_dropout for step in (1, 2)]  # type: ignore[attr-defined]
    assert words == [0.0, 0.4]
    assert text.at(99).losses["cycle"].weight == text.at(5).losses["cycle"].weight


def test_as_a_number_it_is_what_the_last_step_has() -> None:
    recipe = load(*MOVES)
    assert recipe.data.config.jitter == pytest.approx(3 / 5)  # type: ignore[attr-defined]  # the last stage has 4 steps
    assert recipe.losses["joint"].component.config.lambda_ < 0.5  # type: ignore[attr-defined]
    assert resolved(recipe)["data"]["jitter"] == {"from": 0.0, "to": 1.0, "over": 5}
    assert resolved(recipe)["players"]["model"]["optimizer"]["lr"] == {"use": "linear", "value": 3e-3, "warmup": 0, "final": 0.5} | MORE
    assert recipe.source == read_again(recipe).source


def read_again(recipe: Recipe) -> Recipe:
    from ibllm.knobs import reread

    return reread(recipe, ())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("training.batch={from=1,to=2,over=3}", "follows no schedule"),
        ("model.width={use='cosine',value=8}", "follows no schedule"),
        ("training.clip={use='cosine',value=1.0,to=-1.0}", "training.clip: .* is out of range"),
        ("training.clip={use='cosin',value=1.0}", 'no schedule is called "cosin"'),
        ("training.clip={use='cosine',value='a'}", "training.clip.value"),
        ("training.clip={use='piecewise',at=[3,2],values=[1.0,2.0]}", "each larger than the one before"),
        ("training.clip={use='piecewise',at=[0],values=[1.0,2.0]}", "1 values"),
        ("training.clip={use='cosine',valu=1.0}", "valu: unknown key"),
    ],
)
def test_what_cannot_move_so_is_refused_with_its_place(key: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        load(key)
    assert key.partition("=")[0] in str(error.value)


def test_batches_that_are_made_ahead_carry_their_own_steps_number(tmp_path: Path) -> None:
    recipe = load("data.jitter={use='piecewise',at=[0,2,4],values=[0.0,1.0,0.0]}", "training.batch=2")
    course, stage = Course(recipe, recipe.stages["text"]), recipe.stages["text"]
    session = Session(recipe, RunDirectory(tmp_path))
    session.moved = lambda stage: Course(recipe, stage).dataset
    still = Session(load("training.batch=2", "data.jitter=0"), RunDirectory(tmp_path))
    jittered = Session(load("training.batch=2", "data.jitter=1"), RunDirectory(tmp_path))
    made = {}
    for workers in (0, 2):
        session.workers = workers
        feeder = session.feeder(stage, 1)
        batches = iter(feeder)
        made[workers] = [next(batches)[0].y for _ in range(4)]
        feeder.close()
    others = {one: one.feeder(stage, 0) for one in (still, jittered)}
    for step in range(1, 5):
        expected = others[jittered if 2 <= step < 4 else still].make(step)[0].y
        for workers in (0, 2):
            found = made[workers][step - 1]
            assert found is not None and expected is not None
            assert torch.equal(found, expected)
    for feeder in others.values():
        feeder.close()
    assert course.dataset(session.dataset, 2, "data").config.jitter == 1.0  # type: ignore[attr-defined]
    # Held-out splits are made with what the last stage's last step has, its fourth.
    assert session.dataset.config.jitter == 1.0  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    Job(load(*MOVES), tmp_path / "whole").run()
    path = stopped(load(*MOVES), tmp_path / "run", 9)
    Job(load(*MOVES), path).run(resume=True)
    assert alike(tmp_path / "whole", path)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["kind"] == "train" and row["step"] == 4)
    assert row["number/training.clip"] == pytest.approx(0.35)
    assert row["lr/model"] == pytest.approx(3e-3 * (1 - 0.5 * 3 / 6) * 0.1 * 0.5)  # and the stage's cosine


def test_a_captured_iteration_is_captured_anew_where_it_holds_a_number_fast(tmp_path: Path) -> None:
    """What a weight is follows its schedule within a capture; what dropout is does not."""
    recipe = load(
        "losses.image_nll.weight={from=0.1,to=1.0,over=6}", "model.text_encoder.dropout={use='piecewise',at=[0,3],values=[0.0,0.4]}"
    )
    session = Session(recipe, RunDirectory(tmp_path))
    trainer = session.trainer(recipe.stages["text"])
    trainer.replays = recording.captured(trainer, session.tell)
    with pytest.warns(UserWarning, match=r"model\.text_encoder\.dropout follow schedules, and captured iterations hold them fast"):
        arrange(session, trainer, recipe)
    course = trainer.course
    assert isinstance(course, Course)
    counts = []
    for step in range(5):
        trainer.go_to(step, trainer.played())
        counts.append((course.constants, trainer.players[-1].terms[0].weight))
        dropped = {layer.p for layer in session.model.parts["text_encoder"].modules() if isinstance(layer, Dropout)}
        assert dropped == {0.0 if step < 3 else 0.4}
    assert counts[0][0] == counts[2][0] and counts[3][0] == counts[4][0] == counts[0][0] + 1
    assert counts[4][1] == pytest.approx(0.1 + 0.9 * 4 / 6)


def test_without_what_has_it_move_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal,report,course")
    with pytest.raises(UserError, match="the listener course"):
        Job(load("training.clip={from=1,to=2,over=3}"), tmp_path / "run").run()
