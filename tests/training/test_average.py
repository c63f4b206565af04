"""One moving average through the whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ibllm_core.model.players import Average
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.job import Job
from ibllm_core.training.session import Session

pytestmark = pytest.mark.usefixtures("plain_runs")

#: Which part is trained in which stage: the image decoder in all, the image encoder from the second on.
DECODER, ENCODER, HEAD = "parts.image_decoder", "parts.image_encoder", "losses.image_nll"
SETS = (
    "training.ema=0.99",
    "losses.image_nll={use='image_nll', kind='logistic_mixture', components=2}",
    *(f"stages.{stage}.validate.every=0" for stage in ("text", "image")),
)


def raw(session: Session) -> dict[str, Tensor]:
    """A copy of all parameters, by the names that the average has for them."""
    found = {name: p for name, p in session.model.named_parameters() if not name.startswith("parts.discriminator.")}
    found |= {f"losses.{name}.{key}": p for name, loss in session.losses.items() for key, p in loss.named_parameters()}
    return {name: p.detach().clone() for name, p in found.items()}


def test_it_goes_on_through_all_stages(tiny: Any, tmp_path: Path) -> None:
    """Against the recursion a ← d·a + (1 − d)·w, d = min(0.99, (1 + t) / (10 + t)), where t counts a part's or a loss's steps over all stages."""
    session = Session(tiny(*SETS), RunDirectory(tmp_path / "run"))
    expected, steps = raw(session), dict.fromkeys((DECODER, ENCODER, HEAD), 0)
    trained = {"text": (DECODER, HEAD), "image": (DECODER, ENCODER, HEAD), "joint": (DECODER, ENCODER, HEAD)}
    for stage in session.recipe.running():
        trainer, feeder = session.trainer(stage), session.feeder(stage)
        for step in range(3):
            trainer.iterate(feeder.make(step))
            weights = raw(session)
            for owner in trained[stage.name]:
                steps[owner] += 1
                decay = min(0.99, (1 + steps[owner]) / (10 + steps[owner]))
                for name in (name for name in expected if name.startswith(f"{owner}.")):
                    expected[name] = decay * expected[name] + (1 - decay) * weights[name]
        feeder.close()
    assert steps == {DECODER: 9, ENCODER: 6, HEAD: 9}
    assert {owner: session.average.steps[owner] for owner in steps} == steps
    for name, average in session.average.weights.items():
        if name.startswith((f"{DECODER}.", f"{ENCODER}.", f"{HEAD}.")):
            torch.testing.assert_close(average, expected[name], rtol=1e-5, atol=1e-7)


def test_after_many_steps_the_first_one_of_a_stage_moves_it_by_one_per_cent(tiny: Any, tmp_path: Path) -> None:
    session = Session(tiny(*SETS), RunDirectory(tmp_path / "run"))
    stages = session.recipe.running()
    session.trainer(stages[0])
    for _ in range(900):
        session.average.follow([DECODER], 0.99)
    trainer, feeder = session.trainer(stages[1]), session.feeder(stages[1])
    before = {name: average.clone() for name, average in session.average.weights.items() if name.startswith(DECODER)}
    trainer.iterate(feeder.make(0))
    feeder.close()
    weights = raw(session)
    for name, average in before.items():
        torch.testing.assert_close(session.average.weights[name] - average, 0.01 * (weights[name] - average), rtol=1e-3, atol=1e-7)


def test_its_counts_come_back_with_a_checkpoint() -> None:
    shared = torch.nn.Linear(1, 2, bias=False)
    average = Average({"parts.a": shared, "parts.b": torch.nn.Sequential(shared), "losses.c": torch.nn.Linear(1, 1)})
    assert list(average.weights) == ["parts.a.weight", "losses.c.weight", "losses.c.bias"], "a shared parameter has one average"
    for _ in range(3):
        average.follow(["parts.a", "parts.b", "parts.unknown"], 0.5)
    again = Average({"parts.a": shared, "losses.c": torch.nn.Linear(1, 1)})
    again.restore(average.state(), 7)
    assert dict(again.steps) == {"parts.a": 3, "losses.c": 0}
    again.restore({}, 7)
    assert dict(again.steps) == {"parts.a": 7, "losses.c": 7}
    assert again.restart("parts.a") == 7
    assert again.steps["parts.a"] == 0


@pytest.mark.slow
def test_a_stage_that_starts_from_another_run_begins_the_average_of_those_parts_anew(tiny: Any, finished: Path, tmp_path: Path) -> None:
    """And says so, once, on the terminal and in run.json; those of other parts go on."""
    init = f"stages.image.init={{run='{finished}', parts=['image_decoder']}}"
    short = ("stages.text.steps=2", "stages.image.steps=2", "stages.joint.steps=0", "evaluation={items=2, samples=1, after_stage=0}")
    recipe = tiny("compute.device=cpu", "compute.threads=1", *SETS, init, *short)
    with pytest.warns(UserWarning, match="the average of image_decoder, over 2 steps, begins anew"):
        Job(recipe, tmp_path / "whole").run()
    (notice,) = json.loads((tmp_path / "whole" / "run.json").read_text())["notices"]
    assert str(finished) in notice
    end = checkpoints.load(tmp_path / "whole" / "checkpoints" / "step-0000004-end").tensors["average"]
    assert {owner: int(end[f"steps.{owner}"]) for owner in (DECODER, "parts.text_encoder", HEAD)} == {
        DECODER: 2,
        "parts.text_encoder": 2,
        HEAD: 4,
    }
