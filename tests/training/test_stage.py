"""One iteration: what is trained, what is averaged, and that nothing waits for the device."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_diagnose.shared_batches import SharedBatches
from ibllm_testing.waiting import Waited, nothing_waits
from torch import Tensor

from ibllm.passes import arrange
from ibllm_core.errors import Notice
from ibllm_core.model.players import Average
from ibllm_core.model.stage import StageTrainer
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.events import TrainerBuilt
from ibllm_core.training.feeding import Draws, Feeder
from ibllm_core.training.loop import train_stage
from ibllm_core.training.session import Session

pytestmark = pytest.mark.usefixtures("plain_runs")


def opened(recipe: Any, tmp_path: Path) -> Session:
    return Session(recipe, RunDirectory(tmp_path / "run"))


def trainer_of(session: Session, name: str) -> StageTrainer:
    return session.trainer(session.recipe.stages[name])


def run(session: Session, trainer: StageTrainer, steps: int) -> None:
    settings = trainer.stage.training
    feeder = Feeder(Draws(session.dataset, session.model.tokenizers, batch=settings.batch, key=(0, "t"), micro=settings.accumulate))
    try:
        for _ in range(steps):
            trainer.iterate(feeder.make(trainer.step))
    finally:
        feeder.close()


def weights(session: Session) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in session.model.named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("text", {"text_encoder", "image_decoder"}),
        ("image", {"image_encoder", "text_decoder", "image_decoder", "discriminator"}),
        ("joint", {"text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator"}),
    ],
)
def test_a_stage_changes_the_parts_it_trains_and_no_other(tiny, tmp_path: Path, stage: str, parts: set[str]) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny(), tmp_path)
    before = weights(session)
    run(session, trainer_of(session, stage), 3)
    assert changed(before, weights(session)) == parts


@pytest.mark.parametrize(
    "swap",
    [
        "model.text_encoder={use='lstm', layers=1}",
        "model.text_decoder={use='lstm', layers=1}",
        "model.image_encoder={use='seed'}",
        "model.image_decoder={use='seed'}",
        "losses.image_nll={use='image_nll', per='sample'}",
        "losses.text_nll={use='text_nll', per='sample'}",
        "optimizer={use='sgd', lr=0.001, momentum=0.9}",
    ],
)
def test_a_part_is_swapped_in_one_line_and_trains(tiny, tmp_path: Path, swap: str) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny(swap), tmp_path)
    before = weights(session)
    trainer = trainer_of(session, "joint")
    run(session, trainer, 2)
    assert changed(before, weights(session)) == set(session.model.parts)
    assert all(torch.isfinite(p).all() for p in session.model.parameters())


def test_the_model_and_the_critic_have_steps_of_their_own(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny("players.critic.every=2"), tmp_path)
    trainer = trainer_of(session, "joint")
    run(session, trainer, 5)
    assert {player.name: player.steps for player in trainer.players} == {"critic": 3, "model": 5}


def test_micro_batches_give_the_same_gradients(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Captions differ in length, so a mean of means would not do; and an item has its dropout whoever it shares a micro-batch with."""
    sets = (
        "losses.contrast={use='contrastive'}",
        "losses.joint.image=contrast",  # a composite's term that compares the whole batch
        "stages.joint.losses.text_nll=1.0",
        "model.text_encoder.dropout=0.3",
        "model.text_decoder.word_dropout=0.3",
        "model.image_encoder.dropout=0.3",
        "training.clip=0.0",
        "optimizer={use='sgd', lr=0.1}",
        "players.critic.optimizer={use='sgd', lr=0.1}",
    )
    results = []
    for accumulate in (1, 3):
        session = opened(tiny(*sets, f"training.accumulate={accumulate}"), tmp_path)
        before = weights(session)
        run(session, trainer_of(session, "joint"), 1)
        results.append({name: before[name] - p for name, p in weights(session).items()})
    whole, parts = results
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-6)


def test_training_leaves_the_generators_of_the_process_as_they_are(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Also where a part or an optimizer draws from torch's own; then each step starts it from a seed, and which part it was is known."""
    session = opened(tiny("compute.device=cpu"), tmp_path)
    trainer, encoder = trainer_of(session, "joint"), session.model.parts["text_encoder"]
    drawn: list[float] = []
    encoder.register_forward_hook(lambda *_: drawn.append(float(torch.rand(()))))
    trainer.players[1].optimizer.register_step_pre_hook(lambda *_: drawn.append(float(torch.rand(()))))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()
        trainer.go_to(0, {"critic": 0, "model": 0})
        run(session, trainer, 2)
        assert (random.getstate(), repr(np.random.get_state())) == before[:2] and torch.equal(torch.get_rng_state(), before[2])
        found.append(tuple(drawn))
        drawn.clear()
    assert found[0] == found[1] and len(set(found[0])) == len(found[0]) > 2
    assert session.model.unkeyed == {"model.text_encoder"}


def test_a_run_says_where_a_library_draws_from_the_global_generator(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny("stages.text.steps=1", "stages.text.validate.items=2"), tmp_path)
    (tmp_path / "run").mkdir()
    session.model.parts["text_encoder"].norm = torch.nn.Sequential(session.model.parts["text_encoder"].norm, torch.nn.Dropout(0.1))
    stage = session.recipe.stages["text"]
    trainer = session.trainer(stage)
    session.bus.add(SharedBatches())
    session.bus.emit(TrainerBuilt(session, trainer))
    with pytest.warns(Notice, match="text_encoder"):
        train_stage(session, stage, 0, trainer)
    wanted = "stage text: model.text_encoder draws from torch's global generator: results depend on training.accumulate and the number of processes"
    assert session.notices == [wanted]


def test_the_average_is_an_exponential_one(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny("training.ema=0.15"), tmp_path)
    trainer = trainer_of(session, "text")
    name = "parts.image_decoder.form.queries"
    expected = weights(session)[name]
    for step in range(1, 4):
        run(session, trainer, 1)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(session)[name]
    torch.testing.assert_close(session.average.weights[name], expected, rtol=1e-5, atol=1e-6)
    raw = weights(session)[name]
    with session.average.used():
        torch.testing.assert_close(weights(session)[name], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(weights(session)[name], raw)


def on_accelerator(recipe: Any, tmp_path: Path, stage: str, device: torch.device) -> tuple[Session, StageTrainer]:
    """A stage's trainer whose model is on a card, or on the meta device, which stands for one."""
    session = opened(recipe, tmp_path)
    for module in (session.model, *session.losses.values()):
        module.to(device)
    session.average = Average(session.modules)
    trainer = trainer_of(session, stage)
    run(session, trainer, 1)  # the optimizers have made their state
    trainer.go_to(0, {player.name: 0 for player in trainer.players})  # in the first step every loss is played
    return session, trainer


#: The meta device stands for a card where there is none.
ACCELERATORS = ["meta", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize(
    ("stage", "sets"),
    [
        ("joint", ("training.accumulate=2", "training.clip=1.0", "model.text_decoder.word_dropout=0.3")),
        ("text", ("optimizer={use='muon'}",)),
        ("text", ("optimizer={use='schedule_free'}",)),
    ],
)
@pytest.mark.parametrize("kind", ACCELERATORS)
def test_nothing_is_read_from_the_device_between_log_steps(  # type: ignore[no-untyped-def]
    tiny, tmp_path: Path, kind: str, stage: str, sets: tuple[str, ...]
) -> None:
    """Nor copied to it from memory that is not pinned. Every loss and part by itself: tests/conformance."""
    accelerator = torch.device(kind)
    session, trainer = on_accelerator(tiny("compute.device=cpu", *sets), tmp_path, stage, accelerator)
    with nothing_waits(accelerator):
        run(session, trainer, 1)
    if accelerator.type == "cuda":
        assert trainer.read()[f"loss/{'joint' if stage == 'joint' else 'image_nll'}"] > 0


def hooked(fault: Any, module: Any, given: Any, z: Any) -> None:
    fault(z)


FAULTS: dict[str, Any] = {
    "a number that is read": lambda z: float(z.pooled.detach().sum()),
    "an index that is a list": lambda z: z.tokens[[0, 1]],
    "a mask that is counted": lambda z: z.tokens[z.mask],
    "a copy of pageable memory": lambda z: torch.ones(3).to(z.tokens.device, non_blocking=True),
}


@pytest.mark.parametrize("kind", ACCELERATORS)
def test_a_part_that_waits_for_the_device_would_be_seen(tiny, tmp_path: Path, kind: str) -> None:  # type: ignore[no-untyped-def]
    accelerator = torch.device(kind)
    session, trainer = on_accelerator(tiny("compute.device=cpu"), tmp_path, "text", accelerator)
    for name, fault in FAULTS.items():
        handle = session.model.parts["text_encoder"].register_forward_hook(partial(hooked, fault))
        with pytest.raises(Waited) as found, nothing_waits(accelerator):
            run(session, trainer, 1)
        assert found.value, name
        handle.remove()


def test_a_frozen_part_has_its_dropout_off_and_gradients_flow_through_it(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny(), tmp_path)
    trainer = trainer_of(session, "image")  # E_x is frozen there
    assert not any(module.training for module in session.model.parts["text_encoder"].modules())
    assert all(module.training for module in session.model.parts["image_encoder"].modules())
    run(session, trainer, 1)
    assert all(p.grad is None for p in session.model.parts["text_encoder"].parameters())


def test_bf16_trains_and_keeps_fp32_weights(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny("compute.precision=bf16"), tmp_path)
    trainer = trainer_of(session, "joint")
    run(session, trainer, 2)
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in session.model.parameters())


def test_precision_auto_is_fp32_on_a_cpu(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert opened(tiny("compute.device=cpu"), tmp_path).model.autocast is None


@pytest.mark.slow
def test_compiled_parts_give_the_same_numbers(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """With the backend that needs no compiler; what is tested is that every pass can be traced."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: real(f, backend="aot_eager"))
    values = []
    for wanted in ("false", "true"):
        arrange(session := opened(tiny(f"compute.compile={wanted}"), tmp_path))
        trainer = trainer_of(session, "joint")
        run(session, trainer, 2)
        values.append(trainer.read())
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert session.bus.clock.read()["compiling"] > 0.1


@pytest.mark.slow
def test_the_text_module_learns(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = opened(tiny("training.batch=16", "training.clip=1.0", "stages.text.schedule={use='constant'}"), tmp_path)
    trainer = trainer_of(session, "text")
    run(session, trainer, 10)
    first = trainer.read()["loss/image_nll"]
    run(session, trainer, 60)
    trainer.read()
    run(session, trainer, 10)
    assert trainer.read()["loss/image_nll"] < 0.7 * first
