"""One bus: what happens in a run is heard by listeners, in order, and none of them can harm the run or go unnoticed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import ibllm
from ibllm_core.errors import Notice, UserError
from ibllm_core.host.entry_points import LISTENERS
from ibllm_core.recipe import load
from ibllm_core.training.events import (
    EVENTS,
    Bus,
    Listener,
    Logged,
    Measuring,
    RunEnded,
    Stepped,
)
from ibllm_core.training.listeners import standing

from .conftest import TINY

SHORT = ["compute.device=cpu", "compute.threads=1", "stages.text.steps=2", "stages.image.steps=1", "stages.joint.steps=0"]
SHORT += ["evaluation.items=4", "evaluation.after_stage=4", "evaluation.samples=1"]


class Everything(Listener):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def handlers(self):  # type: ignore[no-untyped-def]
        return [(event, name, self.heard.append) for name, event in EVENTS.items()]


@pytest.mark.slow
def test_a_run_says_what_happens_in_order(tmp_path: Path) -> None:
    listener = Everything()
    run = ibllm.recipe(TINY, set=SHORT).run(tmp_path / "run", listeners=[listener])
    assert [type(event).__name__ for event in listener.heard] == [
        "RunStarted", "Prepared", "Measuring", "Rehearsed", "ModelBuilt",
        "TrainerBuilt", "StageStarted", "Stepped", "Stepped", "Logged", "Logged", "Validated", "Measuring", "Logged", "StageEnded",
        "TrainerBuilt", "StageStarted", "Stepped", "Logged", "Logged", "Validated", "StageEnded",
        "Measuring", "Measured", "Sampled", "Measuring", "Measured", "Sampled", "Logged", "RunEnded", "RunClosed",
    ]  # fmt: skip
    rows = [event for event in listener.heard if isinstance(event, Logged)]
    assert [(row.kind, row.stage, row.step, row.total) for row in rows] == [
        ("train", "text", 2, 2), ("validation", "text", 2, 2), ("stage", "text", 2, 2),
        ("train", "image", 1, 3), ("validation", "image", 1, 3),
        ("result", "end", 0, 3),
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k not in ("step", "stage", "kind", "time")} for line in lines] == [
        dict(row.figures) for row in rows
    ]
    assert "listeners/everything" in run.info["timings"]
    assert run.info["hooks"] == {}


@pytest.mark.slow
def test_a_listener_that_raises_is_named_and_changes_nothing(tmp_path: Path) -> None:
    class Broken(Listener):
        def on_stage_started(self, event: object) -> None:
            raise KeyError("oh")

    with pytest.warns(
        Notice, match=r"on_stage_started of the listener 'broken' raised KeyError: 'oh' \(.*test_events\.py:\d+\); the run goes on"
    ):
        run = ibllm.recipe(TINY, set=SHORT).run(tmp_path / "run", listeners=[Broken()])
    assert run.info["status"] == "done"
    (error,) = run.info["hooks"]["listeners/broken"]["errors"]
    assert error["hook"] == "on_stage_started"


def test_a_handler_that_raises_is_not_called_again_and_the_others_are() -> None:
    heard: list[object] = []

    class Broken(Listener):
        def on_measuring(self, event: Measuring) -> None:
            heard.append("broken")
            raise SystemExit(0)

        def on_run_ended(self, event: RunEnded) -> None:
            heard.append("ended")

    bus, other = Bus(), Everything()
    bus.add(Broken(), other)
    with pytest.warns(Notice, match="SystemExit"):
        bus.emit(Measuring("a"))
    bus.emit(Measuring("b"))
    bus.emit(RunEnded({}))
    assert heard == ["broken", "ended"]
    assert len(other.heard) == 3
    assert bus.clock.read().keys() == {"listeners/broken", "listeners/everything"}


def test_the_time_of_a_listener_is_not_that_of_a_stage() -> None:
    class Slow(Listener):
        def on_measuring(self, event: Measuring) -> None:
            time.sleep(0.2)

    bus = Bus()
    bus.add(Slow())
    bus.clock.add({"text": 10.0, "listeners/slow": 5.0})
    with bus.clock.timed("text"):
        bus.emit(Measuring("x"))
        time.sleep(0.05)
        during = bus.clock.read()
    assert list(during) == ["text", "listeners/slow"]
    assert 10.05 <= during["text"] < 10.2
    assert during["listeners/slow"] >= 5.2
    assert bus.clock.read()["text"] < 10.2


def test_events_show_figures_that_nobody_can_change() -> None:
    figures = {"loss": 1.0}
    event = RunEnded(figures)
    with pytest.raises(TypeError):
        event.figures["loss"] = 2.0  # type: ignore[index]
    figures["loss"] = 2.0
    assert event.figures["loss"] == 1.0


def test_whether_anybody_listens_can_be_asked() -> None:
    bus = Bus()
    assert not bus.listens(Stepped)
    bus.add(Everything())
    assert bus.listens(Stepped)


def test_a_method_that_belongs_to_no_event_is_a_mistake() -> None:
    class Misspelt(Listener):
        def on_step(self, event: Stepped) -> None: ...

    with pytest.raises(UserError, match=r"Misspelt\.on_step: there is no such event; did you mean on_stepped\?"):
        Bus().add(Misspelt())


def test_later_listeners_may_be_called_first() -> None:
    order: list[str] = []

    class Named(Listener):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_measuring(self, event: Measuring) -> None:
            order.append(self.name)

    bus = Bus()
    bus.add(Named("c"), Named("d"))
    bus.add(Named("a"), Named("b"), first=True)
    bus.emit(Measuring("x"))
    assert order == ["a", "b", "c", "d"]


def test_it_is_said_that_another_packages_listener_is_not_heard(site, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    site.install("curious", {"looker": "looker:Looker"}, {"looker": "1 / 0"}, version="0.3", group=LISTENERS)
    with pytest.warns(Notice, match=r"the listener 'looker' of curious==0\.3 is not heard: a run hears another package's lifecycle hooks"):
        found, blocked = standing(load(TINY))
    assert all(listener.distribution == "ibllm" for listener in found)
    assert blocked == []
    monkeypatch.setenv("IBLLM_BLOCK", "looker")
    assert standing(load(TINY))[1] == ["looker"]
