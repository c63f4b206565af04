"""State beside the model's weights: best weights, going back to them, restarts, starts from another run, stage by stage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ibllm_core.errors import UserError
from ibllm_core.interfaces.loss import Loss
from ibllm_core.model.stage import ValidationState
from ibllm_core.recipe.schema import Init
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.job import Job
from ibllm_core.training.session import Session

from .test_resume import interrupted

pytestmark = pytest.mark.usefixtures("plain_runs")

#: The first validation is the best: what the loss counts for grows ten times faster than it falls.
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "losses.image_nll={use='image_nll', kind='logistic_mixture', components=2}",
    "stages.text.validate={every=2, items=4}",
    "stages.text.losses.image_nll={from=1.0, to=9.0, over=5}",
    "stages.text.steps=5",
    "stages.image.steps=1",
    "stages.image.validate={every=0, items=4}",
    "stages.joint.steps=0",
    "training.checkpoint_every=1",
    "training.keep=9",
    "evaluation={items=2, after_stage=0, samples=1}",
    "metrics={}",
)


@pytest.fixture(scope="module")
def best(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first stage went back to its best weights, those after step 2 of 5."""
    path = tmp_path_factory.mktemp("best") / "run"
    Job(tiny(*SETS), path).run()
    assert json.loads((path / "run.json").read_text())["stages"][0]["best_step"] == 2
    return path


def groups(path: Path, name: str) -> dict[str, Any]:
    return dict(checkpoints.load(path / "checkpoints" / name).tensors)


def same(a: Any, b: Any) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_going_back_to_the_best_weights_takes_the_losses_and_the_average_along(best: Path) -> None:
    then, end, last = (groups(best, name) for name in ("step-0000002", "step-0000005-end", "step-0000004"))
    assert any(name.startswith("losses.image_nll.") for name in then["weights"])
    for group in ("weights", "average"):
        assert same(end[group], then[group]), group
        assert not any(torch.equal(last[group][name], t) for name, t in then[group].items() if name.startswith("losses.image_nll."))
    assert int(end["average"]["steps.losses.image_nll"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3])
def test_a_restart_after_the_best_validation_ends_as_if_nothing_had_happened(tiny: Any, best: Path, tmp_path: Path, steps: int) -> None:
    path = interrupted(tiny(*SETS), tmp_path / "run", steps)
    Job(tiny(*SETS), path).run(resume=True)
    whole, again = groups(best, "step-0000006-end"), groups(path, "step-0000006-end")
    assert whole.keys() == again.keys()
    assert all(same(whole[group], again[group]) for group in whole)


@pytest.mark.slow
def test_the_model_folder_has_the_losses_and_another_run_starts_from_them(tiny: Any, best: Path, tmp_path: Path) -> None:
    kept, end = load_file(best / "model" / "weights.safetensors"), groups(best, "step-0000006-end")
    assert same(kept, {name: end["average"].get(name, t) for name, t in end["weights"].items()})
    session = Session(tiny(*SETS), RunDirectory(tmp_path / "run"))
    session.start_from(Init(run=str(best)))
    head = {name: t for name, t in session.shared()["weights"].items() if name.startswith("losses.image_nll.")}
    assert same(head, {name: kept[name] for name in head})
    assert same(head, {name: session.average.weights[name] for name in head}), "the average begins there"
    session.start_from(Init(run=str(best), weights="raw"))
    assert same({name: session.shared()["weights"][name] for name in head}, {name: end["weights"][name] for name in head})
    other = Session(tiny(*SETS, "losses.image_nll.components=3"), RunDirectory(tmp_path / "run"))
    with pytest.warns(UserWarning, match="no weights that fit losses.image_nll"):
        other.start_from(Init(run=str(best)))
    assert len(other.notices) == 1


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_no_start(tiny: Any, best: Path, tmp_path: Path) -> None:
    """In the model folder; of checkpoints, older ones are taken, and it is told."""
    there = tmp_path / "other"
    weights = load_file(best / "model" / "weights.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] = math.inf
    (there / "model").mkdir(parents=True)
    save_file(weights, there / "model" / "weights.safetensors")
    for step, value in ((1, 0.5), (2, math.nan)):
        tensors = groups(best, "step-0000001")
        tensors["weights"][name].view(-1)[0] = value
        state = checkpoints.load(best / "checkpoints" / "step-0000001").state
        checkpoints.save(there / "checkpoints" / f"step-000000{step}", checkpoints.Checkpoint(state, tensors))
    session = Session(tiny(*SETS), RunDirectory(tmp_path / "run"))
    with pytest.raises(UserError, match=f"not finite: weights {name}"):
        session.start_from(Init(run=str(there)))
    with pytest.warns(UserWarning, match=f"passed over; step-0000002: not finite: weights {name}"):
        session.start_from(Init(run=str(there), weights="raw"))
    assert float(session.shared()["weights"][name].view(-1)[0]) == 0.5


def test_a_stage_does_not_inherit_the_balance_of_another(tiny: Any, tmp_path: Path) -> None:
    """It would not outlive a restart."""
    session = Session(tiny(), RunDirectory(tmp_path / "run"))
    loss = session.losses["joint"]
    assert isinstance(loss, Loss)
    loss.balance = 3.0
    session.trainer(session.recipe.stages["joint"])
    assert loss.balance == ValidationState().balance == 1.0


def test_a_loss_is_validated_in_evaluation_mode(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss with statistics of its own must not take them from held-out data."""
    from ibllm_core.training.loop import _held_out_loss

    session = Session(tiny(), RunDirectory(tmp_path / "run"))
    stage, modes = session.recipe.stages["text"], []
    trainer = session.trainer(stage)
    real = type(session.losses["image_nll"]).forward
    monkeypatch.setattr(type(session.losses["image_nll"]), "forward", lambda self, cycle: modes.append(self.training) or real(self, cycle))
    assert stage.validate is not None
    _held_out_loss(session, stage.validate, trainer)
    assert modes == [False]
    assert session.losses["image_nll"].training
