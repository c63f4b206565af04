"""What cannot be shared between micro-batches and processes is refused or told; what can be is not changed by it."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from ibllm_diagnose.shared_batches import SharedBatches

from ibllm.sharding import Sharding
from ibllm_core.errors import Notice, UserError
from ibllm_core.model.shares import Ranks
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import session as sessions
from ibllm_core.training.events import Prepared, TrainerBuilt
from ibllm_core.training.loop import _held_out_loss, train_stage
from ibllm_core.training.session import Session

from .conftest import TINY

pytestmark = pytest.mark.usefixtures("plain_runs")


def check(*sets: str, path: Path = TINY) -> str:
    """What a recipe's reading says; empty where it has no mistake."""
    try:
        load(path, sets)
    except UserError as error:
        return str(error)
    return ""


def test_fewer_items_than_shares_are_refused_where_they_are_said(tmp_path: Path) -> None:
    said = check("training.accumulate=9")
    line = next(number for number, text in enumerate(TINY.read_text(encoding="utf-8").splitlines(), 1) if text == "batch = 8")
    assert f"tiny.toml:{line}" in said and "batch = 8 has too few items for accumulate = 9" in said and "batch >= 9" in said
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'extends = "{TINY}"\n[stages.image]\naccumulate = 3\nbatch = 2\n', encoding="utf-8")
    said = check(path=recipe)
    assert "mine.toml:4" in said and "accumulate = 3" in said and said.count("too few") == 1
    assert not check("training.accumulate=8")  # an item each


def test_fewer_items_than_processes_are_refused_at_the_start(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sessions, "join", lambda device: Ranks(0, 5))
    with pytest.raises(UserError, match=r"tiny\.toml:\d+: stages\.text: batch = 8 .* 5 processes × accumulate = 2; expected batch >= 10"):
        Session(tiny("training.accumulate=2"), RunDirectory(tmp_path / "run"))


def test_a_loss_that_cannot_do_with_shares_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ibllm_objectives.config import TextNLLConfig

    monkeypatch.setattr(TextNLLConfig, "undivided", lambda self: True)
    assert not check()
    said = check("training.accumulate=2")
    assert said.count("losses.text_nll (loss.text_nll of ibllm") == 1  # at the key that cuts the batch
    assert "accumulate = 2" in said and "WholeBatchLoss" in said


def test_the_held_out_loss_does_not_depend_on_how_many_items_fit_into_a_pass(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Captions differ in length, and a contrastive loss compares the items of a batch of the training's size."""
    sets = ("losses.contrast={use='contrastive'}", "stages.joint.losses={contrast=1.0, text_nll=1.0}", "stages.joint.validate.items=11")
    session, found = Session(tiny("losses.joint=false", "losses.cycle=false", *sets), RunDirectory(tmp_path / "run")), []
    stage = session.recipe.stages["joint"]
    trainer = session.trainer(stage)
    for fit in (128, 4, 1):
        session.recipe = attrs.evolve(session.recipe, evaluation=attrs.evolve(session.recipe.evaluation, batch=fit))
        found.append(_held_out_loss(session, stage.validate, trainer))
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_parts_that_keep_statistics_of_what_they_see_at_once_are_told(tiny, tmp_path: Path, accumulate: int) -> None:  # type: ignore[no-untyped-def]
    """A codebook moves with each micro-batch, as batch normalisation does."""
    sets = (
        "model.image_tokenizer={use='vq', codes=8, channels=[8], blocks=0}",
        "losses.reconstruction={use='reconstruction'}",
        "stages.text.train=['text_encoder', 'image_decoder', 'image_tokenizer']",
        "stages.text.losses.reconstruction=1.0",
        "stages.text.steps=1",
        "stages.text.validate.every=0",
        f"training.accumulate={accumulate}",
        "training.checkpoint_every=0",
    )
    session = Session(tiny(*sets), RunDirectory(tmp_path / "run"))
    (tmp_path / "run").mkdir(exist_ok=True)
    stage = session.recipe.stages["text"]
    trainer = session.trainer(stage)
    session.bus.add(SharedBatches())
    session.bus.emit(TrainerBuilt(session, trainer))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_stage(session, stage, 0, trainer)
    told = [str(one.message) for one in caught if issubclass(one.category, Notice)]
    assert len(told) == accumulate - 1
    assert all("image_tokenizer" in text and "codes" in text and "training.accumulate" in text for text in told)


@pytest.mark.parametrize(
    ("count", "sets", "refused", "told"),
    [
        (1, (), 0, ["compute.shard: a run of one process shards nothing"]),
        (2, (), 0, []),
        (2, ("procedure={use='lookahead'}",), 3, []),
        (2, ("optimizer={use='schedule_free'}",), 3, []),
    ],
)
def test_what_cannot_be_trained_in_shards_is_refused(tiny, count: int, sets: tuple[str, ...], refused: int, told: list[str]) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    session = SimpleNamespace(recipe=tiny("compute.shard=true", *sets), ranks=Ranks(0, count), tell=said.append)
    Sharding().on_prepared(event := Prepared(session))  # type: ignore[arg-type]
    assert len(event.against) == refused
    assert all(isinstance(error, UserError) and "compute.shard is for the procedure alternate" in str(error) for error in event.against)
    assert said == told
