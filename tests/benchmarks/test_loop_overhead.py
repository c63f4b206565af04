"""The loop against the same mathematics written by hand on the same parts: at most 3 % on top, paired in one run."""

from __future__ import annotations

import statistics
import time
from itertools import islice
from pathlib import Path

import torch

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.noise import Rng
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.feeding import Draws, Feeder
from ibllm_core.training.session import Session

from .rounds import both

RECIPE = Path(__file__).parents[2] / "recipes" / "joint.toml"
STEPS, ROUNDS = 8, 9


def opened(tmp_path: Path, *sets: str) -> Session:
    recipe = load(RECIPE, ("training.ema=0.0", "training.accumulate=1", *sets))
    return Session(recipe, RunDirectory(tmp_path))


def by_hand(session: Session, batches: list[list[Batch]]) -> None:
    """Stage 1 as one would write it: no players, no cycle, no log."""
    stage = session.recipe.stages["text"]
    encoder, decoder = session.model.parts["text_encoder"], session.model.parts["image_decoder"]
    named = {f"{number}.{name}": p for number, part in enumerate((encoder, decoder)) for name, p in part.named_parameters()}
    parameters = list(named.values())
    from ibllm_core.model import build

    optimizer = build.build_optimizer(session.recipe, "model").build(named)
    for step, (made,) in enumerate(batches):
        batch = made.to(session.model.device)
        z = encoder(batch.x)
        drawn = decoder.draw(z, decoder.noise(Rng((0, "train", step), batch.numbers)))
        loss = decoder.likelihood(batch.y, drawn).mean() / batch.y[0].numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if stage.training.clip:
            torch.nn.utils.clip_grad_norm_(parameters, stage.training.clip)
        optimizer.step()


def by_loop(session: Session, batches: list[list[Batch]]) -> None:
    trainer = session.trainer(session.recipe.stages["text"])
    for batch in batches:
        trainer.iterate(batch)
    trainer.read()


@both
def test_the_loop_costs_at_most_three_percent(measured: bool, tmp_path: Path) -> None:
    session = opened(tmp_path, *([] if measured else ["training.batch=2", "compute.threads=1"]))
    feeder = Feeder(Draws(session.dataset, session.model.tokenizers, batch=session.recipe.stages["text"].training.batch, key=(0, "b")))
    batches = list(islice(iter(feeder), STEPS if measured else 1))
    feeder.close()
    ratios = []
    for _ in range(ROUNDS if measured else 1):
        seconds = []
        for way in (by_hand, by_loop):
            started = time.perf_counter()
            way(session, batches)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
    print(f"loop / by hand: median {statistics.median(ratios):.3f} of {sorted(round(r, 3) for r in ratios)}")
    assert statistics.median(ratios) <= 1.03 or not measured
