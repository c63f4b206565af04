"""Procedures in a run: what they train, what they cost, and that a run that was stopped goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ibllm.contracts import check
from ibllm_core.errors import UserError
from ibllm_core.model.watch import Watch
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.session import Session

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SETS = ("compute.device=cpu", "compute.threads=1")
OTHERS = ("extragradient", "lookahead")


def tiny(*sets: str) -> Any:
    return load(TINY, (*SETS, *sets))


def opened(recipe: Any, path: Path, stage: str) -> tuple[Any, Any]:
    session = Session(recipe, RunDirectory(path))
    return session, session.trainer(recipe.stages[stage])


def run(session: Any, trainer: Any, steps: int) -> None:
    feeder = session.feeder(trainer.stage, trainer.step)
    try:
        for _, batch in zip(range(steps), feeder, strict=False):
            trainer.iterate(batch)
    finally:
        feeder.close()


def weights(session: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in session.model.named_parameters()} | {
        f"average.{name}": p.clone() for name, p in session.average.weights.items()
    }


@pytest.mark.parametrize("sets", [(), ("training.accumulate=2",), ("players.critic.every=2",)])
@pytest.mark.parametrize("procedure", OTHERS)
def test_a_stage_changes_the_parts_it_trains_and_no_other(procedure: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    session, trainer = opened(tiny(f"procedure={{use='{procedure}'}}", *sets), tmp_path, "image")
    before = weights(session)
    run(session, trainer, 6)
    changed = {name.split(".")[1] for name, p in weights(session).items() if not torch.equal(p, before[name]) and name.startswith("parts")}
    assert changed == set(trainer.stage.train)
    assert {player.name: player.steps for player in trainer.players} == {"critic": 3 if "players.critic.every=2" in sets else 6, "model": 6}
    assert all(torch.isfinite(p).all() for p in weights(session).values())


@pytest.mark.parametrize("procedure", OTHERS)
@pytest.mark.parametrize("done", [1, 4])
def test_a_stopped_stage_goes_on_bit_for_bit(procedure: str, done: int, tmp_path: Path) -> None:
    recipe = tiny(f"procedure={{use='{procedure}'}}")
    whole, trainer = opened(recipe, tmp_path / "whole", "joint")
    run(whole, trainer, done)
    whole.save(2, trainer)
    kept, _ = checkpoints.newest(tmp_path / "whole" / "checkpoints")
    assert kept is not None
    run(whole, trainer, 7)
    again, resumed = opened(recipe, tmp_path / "again", "joint")
    again.restore(kept)
    resumed.restore(kept.state, kept.tensors)
    run(again, resumed, 7)
    assert ("procedure" in kept.tensors) == (procedure == "lookahead")
    for name, found in weights(again).items():
        assert torch.equal(found, weights(whole)[name]), name


def test_lookahead_of_one_iteration_that_keeps_everything_is_alternate(tmp_path: Path) -> None:
    found = []
    for table in ("{use='alternate'}", "{use='lookahead', every=1, alpha=1.0}"):
        session, trainer = opened(tiny(f"procedure={table}"), tmp_path, "joint")
        run(session, trainer, 4)
        found.append(weights(session))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-6, atol=1e-7)


def test_an_iteration_of_extragradient_costs_two() -> None:
    flops = {}
    for procedure in ("alternate", *OTHERS):
        flops[procedure] = {row.stage: row.flops for row in check(tiny(f"procedure={{use='{procedure}'}}")).stages}
    for stage, once in flops["alternate"].items():
        assert once is not None
        assert flops["lookahead"][stage] == once
        twice = flops["extragradient"][stage]
        # With a critic the two players' gradients share one drawing, as they do when they take turns.
        assert twice == pytest.approx(2 * once, rel=1e-6), stage


def test_what_a_procedure_cannot_follow_is_refused_before_anything_is_spent() -> None:
    pytest.importorskip("schedulefree")
    with pytest.raises(UserError, match=r"procedure = lookahead .*expected another optimizer"):
        check(tiny("procedure={use='lookahead'}", "optimizer={use='schedule_free'}"))


@pytest.mark.parametrize("procedure", ["{use='alternate'}", "{use='extragradient'}", "{use='lookahead', every=2}"])
def test_looking_at_an_iteration_leaves_no_trace_whatever_was_played_before(procedure: str, tmp_path: Path) -> None:
    """Who looks for a fault puts sound weights into the model: a procedure's past, slow weights say, must not come back."""
    session, trainer = opened(tiny(f"procedure={procedure}"), tmp_path, "image")
    run(session, trainer, 3)
    with torch.no_grad():
        for p in session.model.parameters():
            p.fill_(0.01)
    before, steps = weights(session), {player.name: player.steps for player in trainer.players}
    feeder = session.feeder(trainer.stage, trainer.step)
    try:
        for _, batch in zip(range(6), feeder, strict=False):
            trainer.look(batch, Watch())
    finally:
        feeder.close()
    after = weights(session)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert {player.name: player.steps for player in trainer.players} == steps
