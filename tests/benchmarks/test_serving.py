"""Dynamic batching: requests a second from 32 clients at once with it and without, through the whole application, both in one run."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from typing import Any

import pytest
from ibllm_serve.app import application
from ibllm_serve.engine import Engine
from ibllm_serve.settings import Settings

import ibllm
from tests.benchmarks.rounds import both
from tests.serve.load import draws, load_app

ROOT = Path(__file__).parents[2]
CLIENTS, REQUESTS, ROUNDS = 32, 320, 3
#: The default recipe's model, hardly trained: what it draws takes as long as what a trained one does.
HARDLY = [f"stages.{stage}.steps=1" for stage in ("text", "image", "joint")]
SMALL = ("data.train_size=64", "training.batch=8", "evaluation.items=8", "evaluation.after_stage=4")


@both
def test_requests_that_go_together_are_answered_sooner(
    measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal,report,contracts,vocabulary,divergence,passes,capture")
    recipe = ibllm.recipe(ROOT / "recipes/joint.toml", set=[*HARDLY, *SMALL]) if measured else ibllm.recipe(ROOT / "tests/use/tiny.toml")
    engine = Engine(recipe.run(tmp_path / "run"))
    engine.warm()
    clients, requests, rounds = (CLIENTS, REQUESTS, ROUNDS) if measured else (4, 8, 1)
    ratios = []
    for _ in range(rounds):
        rates = []
        for rows in (1, clients):
            told = asyncio.run(load_app(application(engine, Settings(rows=rows), "model", []), clients, draws(), requests))
            assert told.statuses == {200: requests}
            print(f"at most {rows:2d} together: {told}")
            rates.append(told.rate)
        ratios.append(rates[1] / rates[0])
    record_property("ratio", ratio := statistics.median(ratios))
    print(f"together by alone: {ratio:.1f}")
    if measured:
        assert ratio > 1.5, f"requests that go together are answered {ratio:.2f} times as fast"
