"""``design = "search"``: what the database, the plan and the user hear of its points. Runs are pretended; `test_search_command` has real ones."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from ibllm_study import runner, search, trials
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Cell, Plan, make_plan
from ibllm_study.runner import Runner, Watcher
from ibllm_study.study_file import read_study

from ibllm.launching import Ended, Launcher, Task
from ibllm_core.errors import UserError

CHECK = search._check
#: The joint stage alone, validated at every second step by the figure that the study decides by.
SEARCH = """
design = "search"
search = {{ trials = {trials}, sampler = "random", startup = {startup}, pruner = "{pruner}", seed = 1 }}
[set]
"stages.text.steps" = 0
"stages.image.steps" = 0
"stages.joint.steps" = 8
"stages.joint.validate" = {{ every = 2, figure = "scene_exact" }}
[axes]
{axes}
"""
RATE = '"optimizer.lr" = { low = 1e-4, high = 1e-2, log = true }'

Figure = Callable[[Cell, int], float]


class Nowhere(Launcher):
    """Computes nothing: what becomes of a run is pretended."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def start(self, task: Task) -> None:
        raise AssertionError

    def ended(self) -> Mapping[str, Ended]:
        return {}

    def stop(self, name: str, now: bool = False) -> None:
        pass


class Killed(Exception):
    """Stands for kill -9: nothing is tidied up."""


class Pretended(Runner):
    """Runs whose figures are known: each look is two iterations and a validation; a NaN fails the run."""

    def __init__(self, plan: Plan, directory: StudyDirectory, figure: Figure, jobs: int = 1, looks: float = math.inf) -> None:
        self.said: list[str] = []
        super().__init__(plan, directory, Nowhere(jobs), _Saying(self.said))
        self.figure, self.looks = figure, looks
        self.started: list[str] = []
        self.together = 0

    def step(self) -> bool:
        self.looks -= 1
        if self.looks < 0:
            raise Killed
        return super().step()

    def _start(self, cell: Cell) -> None:
        self.started.append(cell.id)
        run = self.directory.run(cell)
        run.path.mkdir(parents=True, exist_ok=True)
        (run / "metrics.jsonl").unlink(missing_ok=True)
        self._workers[cell.id] = runner._Worker(cell)
        self.together = max(self.together, len({worker.cell.arm.name for worker in self._workers.values()}))

    def _look(self, worker: Any, ended: Ended | None) -> None:
        cell, run = worker.cell, self.directory.run(worker.cell)
        step = int(runner.last_row(run / "metrics.jsonl").get("step", 0)) + 2
        value = self.figure(cell, step)
        if math.isnan(value):
            self._finish(worker, "boom")
            return
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "stage": "joint", "kind": "validation", "scene_exact": value}) + "\n")
        if step == 8:
            run.results.write_text(json.dumps({"novel/scene_exact": value}))
            (run / "run.json").write_text('{"status": "done"}')
            self._finish(worker, "")


class _Saying(Watcher):
    def __init__(self, said: list[str]) -> None:
        self.say = said.append  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 0.0)
    monkeypatch.setattr(search, "_check", lambda cell: None)


def rate(cell: Cell) -> float:
    return float(getattr(cell.recipe.players["model"].optimizer.config, "lr"))  # noqa: B009


def higher_rate_is_better(cell: Cell, step: int) -> float:
    """Grows with the rate and with training; seeds differ by a hundredth."""
    return (math.log10(rate(cell)) + 5) * step / 8 + 0.01 * cell.seed


class Given:
    """A search file, its directory, and what its database holds."""

    def __init__(self, write_study: Callable[..., Path], axes: str = RATE, seeds: object = 2, **options: object) -> None:
        self.text = SEARCH.format(**({"trials": 6, "startup": 2, "pruner": "none", "axes": axes} | options))
        self.file = write_study(self.text, seeds=seeds)
        self.directory = StudyDirectory(self.file.parent / "out")

    def plan(self) -> Plan:
        return trials.plan_from_storage(make_plan(read_study(self.file)), self.directory)

    def run(self, figure: Figure = higher_rate_is_better, jobs: int = 1, looks: float = math.inf) -> tuple[Plan, Pretended]:
        plan = self.plan()
        self.directory.prepare(plan)
        pretended = Pretended(plan, self.directory, figure, jobs, looks)
        return search.explore(plan, self.directory, pretended), pretended

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="study", storage=f"sqlite:///{self.directory / 'search.db'}").get_trials()

    def states(self) -> Counter[str]:
        return Counter(trial.state.name for trial in self.trials())


@pytest.fixture
def given(write_study) -> Callable[..., Given]:  # type: ignore[no-untyped-def]
    return lambda *arguments, **options: Given(write_study, *arguments, **options)


def test_each_point_runs_at_every_seed_and_is_worth_the_mean(given: Callable[..., Given]) -> None:
    study = given(trials=4)
    plan, ran = study.run()
    trials = study.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len(plan.arms) == 5
    assert len(plan.cells) == len(ran.started) == 10
    for trial in trials:
        arm = trial.user_attrs["arm"]
        assert rate(plan.cell(arm, 0)) == trial.params["optimizer.lr"]
        assert trial.value == pytest.approx(math.log10(trial.params["optimizer.lr"]) + 5 + 0.005, abs=1e-12)
    best = max(trials, key=lambda trial: trial.params["optimizer.lr"])
    said = "\n".join(ran.said)
    assert f"best: {best.user_attrs['arm']}: novel/scene_exact" in said
    assert f"optimizer.lr={best.params['optimizer.lr']}" in said


def test_the_plan_is_rebuilt_from_the_database(given: Callable[..., Given]) -> None:
    study = given(trials=3)
    plan, _ = study.run()
    again = study.plan()
    assert [cell.id for cell in again.cells] == [cell.id for cell in plan.cells]
    assert [cell.recipe.source for cell in again.cells] == [cell.recipe.source for cell in plan.cells]
    stored = json.loads((study.directory / "plan.json").read_text())
    assert [arm["name"] for arm in stored["arms"]] == [arm.name for arm in plan.arms]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_points_worse_than_the_median_are_given_up(given: Callable[..., Given], mode: str) -> None:
    study = given(trials=8, startup=2, pruner="median")
    study.file.write_text(study.file.read_text().replace("design =", f'mode = "{mode}"\ndesign ='))
    sign = 1 if mode == "max" else -1
    _, ran = study.run(lambda cell, step: sign * higher_rate_is_better(cell, step))
    done: list[optuna.trial.FrozenTrial] = []
    states = Counter()
    for trial in study.trials():
        states[trial.state.name] += 1
        # By hand: a point is given up where its best validation so far is below the median of the finished points at the same place.
        given_up_at = None
        for place in sorted(trial.intermediate_values):
            so_far = [sign * value for at, value in trial.intermediate_values.items() if at <= place]
            others = [sign * other.intermediate_values[place] for other in done]
            if len(done) >= 2 and max(so_far) < statistics.median(others):
                given_up_at = place
                break
        if trial.state.name == "PRUNED":
            assert given_up_at == max(trial.intermediate_values)
            arm = trial.user_attrs["arm"]
            assert not any(name.startswith(ran.plan.cell(arm, 1).id) for name in ran.started), "its second seed is not begun"
            assert "worse than the median" in trial.user_attrs["reason"]
            assert {ran.outcomes[ran.plan.cell(arm, seed).id].status for seed in (0, 1)} == {"pruned"}
        else:
            assert given_up_at is None
            assert trial.value == pytest.approx(sign * (math.log10(trial.params["optimizer.lr"]) + 5.005))
            done.append(trial)
    assert states["PRUNED"] >= 2
    assert states["COMPLETE"] >= 3


def test_a_validation_counts_for_the_seeds_that_got_so_far(given: Callable[..., Given]) -> None:
    study = given(trials=1)
    study.run()
    (trial,) = study.trials()
    value = math.log10(trial.params["optimizer.lr"]) + 5
    expected = {}
    for step in (2, 4, 6, 8):
        expected[2 * step] = value * step / 8
        expected[2 * step + 1] = value * step / 8 + 0.005
    assert trial.intermediate_values == pytest.approx(expected)


def test_without_a_validation_of_the_primary_figure_nothing_is_pruned_and_it_says_so(given: Callable[..., Given]) -> None:
    study = given(trials=5, startup=1, pruner="median")
    study.file.write_text(study.file.read_text().replace('figure = "scene_exact"', 'figure = "caption_exact"'))
    _, ran = study.run()
    assert study.states() == {"COMPLETE": 5}
    assert "nothing is pruned" in ran.said[0]
    assert '"stages.joint.validate.figure" = "scene_exact"' in ran.said[0]


def test_a_point_that_cannot_be_built_is_told_and_costs_no_trial(given: Callable[..., Given], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_check", CHECK)
    study = given('"model.text_encoder.heads" = [2, 1, 3]', trials=8, seeds=1)
    plan, ran = study.run(lambda cell, step: step / 8)
    refused = [trial for trial in study.trials() if "refused" in trial.user_attrs]
    assert refused, "the sampler's seed should lead there"
    assert all(trial.params["model.text_encoder.heads"] == 3 for trial in refused)
    assert study.states()["COMPLETE"] == 8
    assert any("cannot be built" in line for line in ran.said)
    # Two heads are the base's: that point is the base itself.
    assert [arm.changes for arm in plan.arms] == [{}, {"model.text_encoder.heads": 1}]


def test_axes_that_lead_nowhere_are_an_error_before_anything_runs(given: Callable[..., Given]) -> None:
    study = given('"model.text_encoder.head" = [2, 4]', seeds=1)
    with pytest.raises(UserError, match=r"none of the first 10 points can be built.*head"):
        study.run()
    assert not list(study.directory.path.glob("runs/*/*"))


def test_the_same_point_twice_runs_once(given: Callable[..., Given]) -> None:
    study = given('"losses.joint.lambda" = [0.25, 0.75]', trials=7)
    plan, ran = study.run(lambda cell, step: step / 8)
    assert study.states() == {"COMPLETE": 7}
    assert len(plan.arms) == 3
    assert max(Counter(ran.started).values()) == 1


def test_tables_are_values_of_an_axis_too(given: Callable[..., Given]) -> None:
    study = given('"model.text_encoder" = [{ use = "lstm", width = 8 }, { use = "lstm", width = 16 }]', trials=4, seeds=1)
    plan, _ = study.run(lambda cell, step: step / 8)
    assert {str(cell.recipe.parts["text_encoder"]) for cell in plan.cells if cell.arm.changes} == {"text_encoder.lstm"}
    assert {trial.params["model.text_encoder"] for trial in study.trials()} == {"lstm { width = 8 }", "lstm { width = 16 }"}


def test_a_failed_run_fails_its_point_and_can_be_tried_again(given: Callable[..., Given]) -> None:
    study = given('"losses.joint.lambda" = [0.25, 0.75]', trials=4)

    def fails(cell: Cell, step: int) -> float:
        return math.nan if cell.arm.changes.get("losses.joint.lambda") == 0.75 else step / 8

    plan, ran = study.run(fails)
    (bad,) = (arm for arm in plan.arms if arm.changes.get("losses.joint.lambda") == 0.75)
    assert study.states()["FAIL"] >= 1
    assert study.states()["COMPLETE"] >= 1
    assert study.directory.outcome(plan.cell(bad.name, 1)).status == "pruned", "nobody needs its other seed"
    failed = study.states()["FAIL"]
    study.run(lambda cell, step: step / 8)
    assert study.states()["FAIL"] == failed, "not unasked"
    trials.retry(study.plan(), study.directory)
    again, ran = study.run(lambda cell, step: step / 8)
    assert set(ran.started) == {plan.cell(bad.name, seed).id for seed in (0, 1)}
    assert [arm.name for arm in again.arms] == [arm.name for arm in plan.arms]
    last = study.trials()[-1]
    assert last.state.name == "COMPLETE"
    assert last.params == {"losses.joint.lambda": 0.75}


@pytest.mark.parametrize("looks", [3, 24])
def test_killed_at_any_time_it_goes_on_to_the_same_end(given: Callable[..., Given], tmp_path: Path, looks: int) -> None:
    study = given(trials=5, startup=2, pruner="median")
    whole, ran = study.run()
    expected = [(trial.state, trial.params, trial.value, trial.intermediate_values) for trial in study.trials()]
    study.directory = StudyDirectory(tmp_path / "killed")
    with pytest.raises(Killed):
        study.run(looks=looks)
    done = {path.parent.name for path in study.directory.path.glob("runs/*/results.json")}
    plan, again = study.run()
    assert [(trial.state, trial.params, trial.value, trial.intermediate_values) for trial in study.trials()] == expected
    assert [cell.id for cell in plan.cells] == [cell.id for cell in whole.cells]
    assert not done & set(again.started), "what is done is kept"
    assert len(again.started) + len(done) <= len(ran.started)


def test_killed_while_asking_the_point_gets_its_other_values(given: Callable[..., Given]) -> None:
    study = given(RATE + '\n"losses.joint.lambda" = [0.25, 0.75]', trials=2, seeds=1)
    stored = optuna.create_study(study_name="study", storage=_storage(study), direction="maximize")
    stored.ask().suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
    plan, _ = study.run()
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE"] * 2
    assert len(plan.arms) == 3


def _storage(study: Given) -> str:
    study.directory.prepare(study.plan())
    return f"sqlite:///{study.directory / 'search.db'}"


def test_more_trials_go_on_and_nothing_is_run_again(given: Callable[..., Given]) -> None:
    study = given(trials=2)
    _, first = study.run()
    study.file.write_text(study.file.read_text().replace("trials = 2", "trials = 4"))
    _, second = study.run()
    assert study.states() == {"COMPLETE": 4}
    assert len(second.started) == 4
    assert not set(first.started) & set(second.started)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("seeds = 2", "seeds = 3", "seeds"),
        ("high = 1e-2", "high = 1e-1", "axes"),
        ('"stages.joint.steps" = 8', '"stages.joint.steps" = 9', "base recipe or versions"),
    ],
)
def test_another_search_does_not_go_on_with_its_values(given: Callable[..., Given], before: str, after: str, what: str) -> None:
    study = given(trials=1)
    study.run()
    study.file.write_text(study.file.read_text().replace(before, after))
    with pytest.raises(UserError, match=rf"with other {what};"):
        study.run()


def test_more_workers_than_seeds_follow_several_points_at_once(given: Callable[..., Given]) -> None:
    study = given(trials=6)
    _, ran = study.run(jobs=6)
    assert ran.together == 3
    assert study.states() == {"COMPLETE": 6}


def test_without_optuna_it_names_the_extra(given: Callable[..., Given], monkeypatch: pytest.MonkeyPatch) -> None:
    study = given()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r'pip install "ibllm\[search\]"'):
        study.run()


def test_a_database_that_is_none_is_an_error(given: Callable[..., Given]) -> None:
    study = given()
    study.directory.prepare(make_plan(read_study(study.file)))
    (study.directory / "search.db").write_text("no database" * 1000)
    with pytest.raises(UserError, match=r"search\.db cannot be used"):
        study.plan()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ('"optimizer.lr" = { low = 1e-2, high = 1e-3 }', "expected: less than high"),
        ('"optimizer.lr" = { low = 0.0, high = 1e-3, log = true }', "expected: low > 0"),
        ('"model.width" = { low = 8, high = 20, step = 8 }', "expected: more than 0, and to lead from low = 8 to high = 20"),
        ('"losses.joint.lambda" = [0.5, 0.5]', "a value is there twice"),
    ],
)
def test_axes_are_checked(given: Callable[..., Given], axis: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        given(axis).run()


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ('"model.width" = { low = 8, high = 24, step = 8 }', {8, 16, 24}),
        ('"losses.joint.lambda" = { low = 0.0, high = 0.5, step = 0.25 }', {0.0, 0.25, 0.5}),
    ],
)
def test_steps_of_a_range(given: Callable[..., Given], axis: str, values: set[float]) -> None:
    study = given(axis, trials=8, seeds=1)
    study.run(lambda cell, step: step / 8)
    found = {next(iter(trial.params.values())) for trial in study.trials()}
    assert len(found) > 1
    assert found <= values
    assert {type(value) for value in found} == {type(value) for value in values}
