"""Which runs are the same up to the end of a stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from ibllm_study.plan import make_plan
from ibllm_study.sharing import prefixes, run_key
from ibllm_study.study_file import read_study

from ibllm.resolved import resolved
from ibllm_core.recipe import load

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def shared(*sets: str, seed: int = 0) -> int:
    """How many stages a changed recipe shares with the tiny one."""
    before, after = prefixes(load(TINY, seed=0)), prefixes(load(TINY, sets, seed))
    return sum(a.key == b.key for a, b in zip(before, after, strict=False))


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("losses.joint.lambda=0.0", 2),
        ("stages.joint.steps=0", 2),
        ("stages.joint.lr=0.5", 2),
        ("losses.cycle=false", 2),
        ("losses.cycle.weight=0.3", 2),
        ("name=other", 3),
        ("trackers.tensorboard=false", 3),
        ("losses.adversarial.mismatched=0.0", 1),
        ("stages.image.steps=5", 1),
        ("players.critic.optimizer.lr=1e-4", 0),
        ("stages.text.steps=9", 0),
        ("training.batch=9", 0),
        ("model.text_decoder.depth=2", 0),
        ("data.jitter=0.1", 0),
        ("losses.image_nll.weight=2.0", 0),
        ("compute.threads=2", 0),
        ("compute.compile=true", 0),
        ("compute.activation_checkpointing=true", 3),
        ("compute.graphs=false", 3),
        ("compute.workers=2", 3),
        ("evaluation.beams=2", 0),
    ],
)
def test_stages_are_shared_as_far_as_nothing_differs(change: str, stages: int) -> None:
    assert shared(change) == stages


def test_another_seed_shares_nothing() -> None:
    assert shared(seed=1) == 0


def test_a_loss_of_a_later_stage_is_no_difference_whatever_its_options() -> None:
    assert shared('losses.cycle={ use = "cycle", weight = 0.5 }', "losses.joint.lambda=3.0") == 2


def test_runs_are_the_same_whatever_they_are_called() -> None:
    assert run_key(load(TINY)) == run_key(load(TINY, ["name=other"]))
    assert run_key(load(TINY)) != run_key(load(TINY, ["evaluation.items=9"]))


def test_a_study_of_lambda_trains_its_first_two_stages_once_a_seed(write_study) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(read_study(write_study('[axes]\n"losses.joint.lambda" = [0.0, 1.0, 2.0]\n', seeds=3)))
    trained, whole = plan.steps()
    assert whole == 3 * 4 * 20
    assert trained == 3 * (14 + 4 * 6)
    led = [key for key, cell in plan.leaders.items() if cell.arm.name == "base"]
    assert len(led) == 3 * 3, "the base trains the shared stages; the end of an arm of its own is nobody else's"


def test_an_option_that_came_later_names_other_runs_only_where_it_is_used() -> None:
    plain, ten = load(TINY), load(TINY, ["data.colours=10"])
    assert resolved(plain)["data"]["colours"] == 8
    assert "colours" not in resolved(plain, added=False)["data"]
    assert resolved(ten, added=False)["data"]["colours"] == 10
    assert run_key(plain) != run_key(ten)
