"""What makes a GAN fail is seen in runs where it is made to, and followed as the recipe says; in runs that go well nothing is seen."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ibllm_cli.main import cli
from ibllm_watch.listener import Unhealthy
from ibllm_watch.symptoms import SYMPTOMS, Row, afterwards, diagnose

from ibllm_core.errors import UserError
from ibllm_core.recipe import load
from ibllm_core.training.job import Interrupted, Job
from tests.stopping import StopAt

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("healthy", HERE / "healthy.py")
assert _spec is not None and _spec.loader is not None
healthy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(healthy)

#: Symptom → overrides that provoke it.
PROVOKED = {
    "overpowering": ("losses.penalty=false", "players.critic.optimizer.lr=1e-2", "optimizer.lr=1e-5", "stages.gan.steps=20"),
    "asleep": ("players.critic.optimizer.lr=1e-9", "optimizer.lr=2e-3", "stages.gan.steps=24"),
    "collapse": (
        'order=["first","gan"]',
        'stages.first={steps=1, train=["text_encoder","image_decoder"], losses={image_nll=1.0}}',
        "stages.gan.losses.image_nll=1.0",
        "optimizer.lr=6e-3",
        "stages.gan.steps=20",
    ),
    "vanishing": (
        "losses.adversarial.weight={from=1.0,to=0.0,over=20}",
        "losses.image_nll=false",
        "stages.gan.losses.image_nll=false",
        "stages.gan.steps=32",
    ),
    "oscillation": (
        "losses.penalty=false",
        "stages.gan.losses.image_nll=1.0",
        "stages.gan.losses.adversarial={from=0.0,to=100.0,over=40}",
        "optimizer.lr=1e-2",
        "stages.gan.steps=40",
    ),
    "not_finite": ("optimizer.lr=1e20", "stages.gan.steps=4"),
}


def recipe(*sets: str) -> Any:
    return load(HERE / "gan.toml", ("compute.device=cpu", "compute.threads=1", "evaluation.items=2", "evaluation.samples=1", *sets))


def info(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def same(a: Path, b: Path) -> bool:
    """Whether two runs ended with the same weights and rows."""
    clock = ("time", "samples_per_second")
    kept = [[{k: v for k, v in row.items() if k not in clock} for row in rows(run)] for run in (a, b)]
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in (a, b)]
    return kept[0] == kept[1] and weights[0] == weights[1]


@pytest.mark.parametrize("symptom", PROVOKED)
def test_what_is_provoked_is_seen_and_told_with_what_helps(symptom: str, tmp_path: Path) -> None:
    """By name, in run.json and among the notices; numbers that are not finite end the run whatever the watch does."""
    job = Job(recipe(*PROVOKED[symptom]), tmp_path / "run")
    if symptom == "not_finite":
        with pytest.raises(UserError, match="no longer a finite number"):
            job.run()
    else:
        job.run()
    found = info(tmp_path / "run")
    alarms = [alarm for alarm in found["watch"]["alarms"] if alarm["symptom"] == symptom]
    assert alarms and alarms[0]["stage"] == "gan" and alarms[0]["action"] == "warned"
    told = [notice for notice in found["notices"] if SYMPTOMS[symptom].title in notice]
    assert len(told) == 1 and SYMPTOMS[symptom].remedy in told[0] and alarms[0]["because"] in told[0]


@pytest.mark.parametrize("name", ["relativistic, dcgan", "hinge, patchgan"])
def test_a_healthy_run_hears_nothing(name: str, tmp_path: Path) -> None:
    """Two of the twenty, shortened; the others are in tests/integration/test_watch_is_quiet.py."""
    job = Job(recipe(*healthy.RUNS[name], "stages.gan.steps=40"), tmp_path / "run")
    job.run()
    assert info(tmp_path / "run")["watch"] == {"rows": {"gan": 20}, "alarms": []}
    figures = rows(tmp_path / "run")[-2]
    assert {"watch/diversity", "watch/variety", "watch/gradient_ratio", "grad_norm/model", "grad_norm/critic"} <= figures.keys()
    assert {f"loss/critic/adversarial/accuracy_{of}" for of in ("generated", "mismatched")} <= figures.keys()
    assert any(getattr(line, "startswith", lambda _: False)("watch    nothing to warn of in 20 rows") for line in job.closing)


#: Goes back twice, then stops.
BACK = ("training.watch.action=roll_back", "training.watch.most=2", "training.watch.factor=0.1", "training.watch.patience=3")
#: The critic wins, but for a rate that is lowered once.
WON = ("losses.penalty=false", "players.critic.optimizer.lr=1e-2", "optimizer.lr=1e-5", "training.checkpoint_every=4", "training.keep=20")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went back as often as it may."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBLLM_BLOCK", "report,contracts,rehearsal")
        with pytest.raises(Unhealthy, match=r"stopped by its watch, after it went back 2 times: the critic overpowers"):
            Job(recipe(*WON, *BACK, "stages.gan.steps=60"), path).run()
    return path


def test_it_goes_back_with_a_lower_rate_and_stops_in_the_end(stopped: Path) -> None:
    """Rows and checkpoints of what it went back from are forgotten; rates are lower from there on; everything is counted and said."""
    found = info(stopped)
    alarms = found["watch"]["alarms"]
    assert [alarm["action"] for alarm in alarms] == ["rolled back", "rolled back", "stopped"] and found["status"] == "failed"
    assert all(alarm["to"] <= alarm["step"] - 2 * 3 for alarm in alarms[:2])
    assert sum("Rolled back to step" in notice for notice in found["notices"]) == 2
    steps = [row["step"] for row in rows(stopped)]
    assert steps == sorted(set(steps))
    rates = [row["lr/critic"] for row in rows(stopped)]
    assert rates[0] in (pytest.approx(1e-2), pytest.approx(1e-3), pytest.approx(1e-4)) and rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)


def test_a_run_that_is_stopped_between_goes_on_as_if_it_had_not_been(stopped: Path, tmp_path: Path) -> None:
    """At a row of figures after it went back: the same alarms, rows and rates."""
    to = info(stopped)["watch"]["alarms"][0]
    listener, made = StopAt(to["step"] + 4), recipe(*WON, *BACK, "stages.gan.steps=60")
    listener.job = Job(made, tmp_path / "run", [listener])
    with pytest.raises(Interrupted):
        listener.job.run()
    assert len(info(tmp_path / "run")["watch"]["alarms"]) == 1
    with pytest.raises(Unhealthy):
        Job(made, tmp_path / "run").run(resume=True)
    found, wanted = info(tmp_path / "run")["watch"], info(stopped)["watch"]
    assert found == wanted
    assert [row["lr/critic"] for row in rows(tmp_path / "run")] == [row["lr/critic"] for row in rows(stopped)]


def test_a_watch_changes_nothing_where_it_sees_nothing_and_a_restart_changes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: with a watch and without one, and with a stop between."""
    sets = ("stages.gan.steps=12",)
    Job(recipe(*sets), tmp_path / "whole").run()
    listener = StopAt(6)
    listener.job = Job(recipe(*sets), tmp_path / "halves", [listener])
    with pytest.raises(Interrupted):
        listener.job.run()
    Job(recipe(*sets), tmp_path / "halves").run(resume=True)
    assert same(tmp_path / "whole", tmp_path / "halves")
    assert info(tmp_path / "whole")["watch"] == info(tmp_path / "halves")["watch"]
    monkeypatch.setenv("IBLLM_BLOCK", "health")
    Job(recipe(*sets), tmp_path / "unwatched").run()
    assert "watch" not in info(tmp_path / "unwatched")
    watched, unwatched = ((tmp_path / run / "model" / "weights.safetensors").read_bytes() for run in ("whole", "unwatched"))
    assert watched == unwatched


def test_figures_that_nothing_can_give_are_told(tmp_path: Path) -> None:
    """The model has no captioner that would read drawings."""
    Job(recipe("stages.gan.steps=2"), tmp_path / "run").run()
    told = [text for text in info(tmp_path / "run")["notices"] if "left out" in text]
    assert told == ["watch of the stage gan: recall and consistency are left out: the model has no captioner to read drawings"]
    assert {"watch/recall", "watch/consistency"}.isdisjoint(rows(tmp_path / "run")[0])


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_command_line_stops_with_what_was_seen_and_what_helps(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    sets = ("compute.device=cpu", "training.watch.action=stop", "training.watch.patience=2", *PROVOKED["overpowering"])
    found = invoke("run", HERE / "gan.toml", "--run-dir", tmp_path / "run", *(word for one in sets for word in ("--set", one)))
    assert isinstance(found.exception, Unhealthy)  # which the error boundary makes a message and exit code 2
    assert info(tmp_path / "run")["watch"]["alarms"][0]["action"] == "stopped"


def test_a_wrong_action_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="roll_back"):
        recipe("training.watch.action=roll")


def series(make: Callable[[int], Row], count: int = 30) -> list[Row]:
    return [make(step) for step in range(count)]


@pytest.mark.parametrize(
    "make",
    [
        lambda step: Row(certainty=0.99, gap=4.0, accuracy=1.0, variety=0.9, model=1.0, critic=0.1),
        lambda step: Row(
            certainty=0.55, gap=0.1 * (-1) ** step + 0.2, accuracy=0.6 + 0.1 * (-1) ** step, variety=0.5, model=1 / (step + 1)
        ),
        lambda step: Row(variety=0.6 * 0.8**step, diversity=0.55 * 0.8**step),
        lambda step: Row(model=10.0 ** (-step / 10)),
        lambda step: Row(),
    ],
    ids=["a critic that leads", "balance", "untrained noise that settles", "a loss that falls", "nothing"],
)
def test_what_is_usual_is_no_symptom(make: Callable[[int], Row]) -> None:
    assert diagnose(series(make), 5) == {}


def test_a_run_without_a_watch_is_judged_afterwards() -> None:
    """From the rows that it wrote, a symptom once for each time that it begins."""
    told = [
        {"kind": "train", "stage": "gan", "step": step, "loss/critic/a/certainty": 0.999 if step // 10 % 2 else 0.6} for step in range(40)
    ]
    assert [(alarm.symptom, alarm.step) for alarm in afterwards([*told, {"kind": "validation", "stage": "gan", "step": 40}])] == [
        ("overpowering", 14),
        ("overpowering", 34),
    ]
