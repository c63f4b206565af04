"""What is turned while a run trains is checked, taken up at a step boundary, kept, and turned again, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ibllm_cli.main import cli
from safetensors.torch import load_file

import ibllm
from ibllm import knobs
from ibllm_core.errors import UserError
from ibllm_core.recipe import Recipe
from ibllm_core.recipe import load as read
from ibllm_core.training.events import Listener, Stepped
from ibllm_core.training.job import Interrupted, Job
from tests.processes import command, free_port
from tests.stopping import StopAt

from . import knob_ranks
from .knob_ranks import SMALL, load

#: What is turned: before how many steps of the run, and what.
TURNED = (
    (2, ("losses.image_nll.weight=0.5", "model.text_encoder.dropout=0.4")),
    (8, ("data.jitter=0.2", "optimizer.lr=1e-3")),
    (9, ("training.clip=0.3", "stages.joint.losses.cycle=0.7", "players.critic.optimizer.lr=5e-4")),
    (12, ("losses.joint.lambda={from=0.1,to=0.3,over=4}",)),
)


def invoke(*arguments: object) -> str:
    """The command line in this process; what it printed."""
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False, catch_exceptions=False)
    return found.stdout


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def alike(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def stopped(recipe: Recipe, path: Path, steps: int) -> Path:
    listener = StopAt(steps)
    listener.job = Job(recipe, path, [listener])
    with pytest.raises(Interrupted):
        listener.job.run()
    return path


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first step, and turned while it went on."""
    monkey = pytest.MonkeyPatch()
    monkey.setenv("IBLLM_BLOCK", "rehearsal,report")
    path = stopped(load(SMALL), tmp_path_factory.mktemp("turned") / "run", 1)
    for step, sets in TURNED:
        said = invoke("knob", path, *sets, "--at", step)
        assert "waits until the run goes on" in said
    invoke("run", path, "--resume")
    monkey.undo()
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
class TestTurned:
    def test_a_run_keeps_what_was_turned_and_from_which_step(self, turned: Path) -> None:
        found = knobs.recorded(turned)
        assert [(knob.step, knob.set) for knob in found] == list(TURNED)
        assert [(knob.stage, knob.stage_step) for knob in found] == [("text", 2), ("image", 2), ("image", 3), ("joint", 1)]
        assert not (turned / "knobs").exists()
        notices = json.loads((turned / "run.json").read_text())["notices"]
        assert any("losses.image_nll.weight=0.5" in notice and "from step 2" in notice for notice in notices)

    def test_what_was_turned_is_in_the_log(self, turned: Path) -> None:
        rows = [json.loads(line) for line in (turned / "metrics.jsonl").read_text().splitlines()]
        last = [row for row in rows if row["kind"] == "train"][-1]
        assert last["number/training.clip"] == 0.3
        assert last["number/data.jitter"] == 0.2
        assert last["number/losses.joint.lambda"] == pytest.approx(0.25)
        first = next(row for row in rows if row["kind"] == "train" and row["step"] == 10)
        assert first["lr/model"] == pytest.approx(1e-3)

    def test_a_fresh_run_that_is_turned_alike_ends_alike(self, turned: Path, tmp_path: Path) -> None:
        invoke("run", turned / "recipe.toml", "--knobs", turned, "--run-dir", tmp_path / "again")
        assert alike(turned, tmp_path / "again")
        assert [knob.set for knob in knobs.recorded(tmp_path / "again")] == [sets for _, sets in TURNED]

    def test_a_run_that_goes_on_turns_it_again(self, turned: Path, tmp_path: Path) -> None:
        """Stopped after a knob that its checkpoint has, and one step before another that is recorded already."""
        with knobs.replaying(turned):
            path = stopped(load(SMALL), tmp_path / "run", 8)
        invoke("run", path, "--resume")
        assert alike(turned, path)

    def test_it_is_not_left_out_in_silence(self, turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IBLLM_BLOCK", "rehearsal,report,course")
        with pytest.raises(UserError, match="would not be turned again: the listener course is blocked"):
            invoke("run", turned / "recipe.toml", "--knobs", turned, "--run-dir", tmp_path / "again")

    def test_what_worked_becomes_a_recipe(self, turned: Path, tmp_path: Path) -> None:
        recipe = tmp_path / "worked.toml"
        recipe.write_text(invoke("knob", turned, "--as-recipe"))
        found = read(recipe)
        assert {".".join(map(str, number.path)) for number in found.scheduled} >= {"data.jitter", "optimizer.lr", "training.clip"}
        invoke("run", recipe, "--run-dir", tmp_path / "run")
        assert alike(turned, tmp_path / "run")

    def test_untouched_it_would_have_ended_elsewhere(self, turned: Path, tmp_path: Path) -> None:
        Job(load(SMALL), tmp_path / "run").run()
        assert not alike(turned, tmp_path / "run")

    def test_the_report_marks_it(self, turned: Path) -> None:
        from ibllm_report.charts import bands
        from ibllm_report.files import read as read_files
        from ibllm_report.page import render

        assert [band.marks for band in bands(read_files(turned))] == [[2.0], [8.0, 9.0], [12.0]]
        page = render(turned).read_text()
        assert "Turned while it trained" in page
        assert "players.critic.optimizer.lr=5e-4" in page

    def test_the_list_says_what_may_be_turned_and_what_it_is(self, turned: Path) -> None:
        found = json.loads(invoke("knob", turned, "--json"))
        assert found["numbers"]["training.clip"] == {"now": 0.3, "range": ">= 0", "follows": ""}
        assert found["numbers"]["losses.joint.lambda"]["now"] == pytest.approx(0.25)
        assert "model.width" not in found["numbers"]
        assert "may be turned" in invoke("knob", turned)

    def test_a_run_that_is_done_is_left_alone(self, turned: Path) -> None:
        with pytest.raises(UserError, match="is done"):
            invoke("knob", turned, "training.clip=1")


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ("model.width=8", "model.width stays as it is while a run trains"),
        ("losses.cycel.weight=1", "is no number of this recipe; did you mean 'losses.cycle.weight'"),
        ("training.clip=-1", "-1.0 is out of range"),
        ("training.clip=true", "true \\(a boolean\\) has the wrong type"),
        ("stages.text.losses.image_nll=2", "the stage text is over"),
        ("training.clip", "expected KEY=VALUE"),
        ("training.clip={use='cosine',value=1,to=-2.0}", "is out of range"),
    ],
)
def test_a_knob_is_checked_as_a_recipe_is(knob: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        knobs.checked(load(SMALL), [knob], done=["text"])


def test_there_is_no_average_to_turn_where_the_recipe_has_none() -> None:
    assert "training.ema" in knobs.movable(load(SMALL))
    assert "training.ema" not in knobs.movable(load(SMALL, ("training.ema=0",)))


class TurnsInMidst(Listener):
    """A plugin's listener that turns something after the second step, and something that cannot be turned."""

    def __init__(self, run: Path) -> None:
        self._run, self.wrong = run, ""

    def on_stepped(self, event: Stepped) -> None:
        if event.stage.name == "text" and event.step == 2:
            ibllm.open(self._run).knob("losses.image_nll.weight=0.25")  # type: ignore[union-attr]
            try:
                ibllm.open(self._run).knob("model.width=3")  # type: ignore[union-attr]
            except UserError as error:
                self.wrong = str(error)


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
def test_a_listener_turns_at_the_very_next_step(tmp_path: Path) -> None:
    listener = TurnsInMidst(tmp_path / "run")
    Job(load(SMALL, ("stages.image.steps=0", "stages.joint.steps=0", "stages.text.steps=3")), tmp_path / "run", [listener]).run()
    (knob,) = ibllm.open(tmp_path / "run").knobs  # type: ignore[union-attr]
    assert (knob.step, knob.set, knob.by) == (2, ("losses.image_nll.weight=0.25",), "Run.knob")
    assert "model.width stays as it is" in listener.wrong


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
def test_what_somebody_else_wrote_is_told_and_forgotten(tmp_path: Path) -> None:
    path = stopped(load(SMALL, ("stages.image.steps=0", "stages.joint.steps=0")), tmp_path / "run", 1)
    (path / "knobs").mkdir()
    for number, asked in enumerate(
        ({"set": "clip", "name": "0"}, {"set": ["training.clip=0.5"], "at": "soon", "name": "1"}, {"set": [3], "name": "2"})
    ):
        (path / "knobs" / f"{number}.json").write_text(json.dumps(asked))
    invoke("run", path, "--resume")
    assert knobs.recorded(path) == []
    assert not (path / "knobs").exists()
    assert sum("not turned" in notice for notice in ibllm.open(path).info["notices"]) == 3  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
def test_of_two_processes_both_turn_at_one_step(tmp_path: Path) -> None:
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            command(knob_ranks.__file__, tmp_path),
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1]
    # It is asked for after step 3 and taken up where figures are read, after step 4.
    assert [step for step, weight, _ in seen[0] if weight == 0.5 and step < 6] == [4, 5]
    assert [clip for step, _, clip in seen[0] if step in (3, 4)] == [1.0, 0.2]
