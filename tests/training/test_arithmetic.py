"""How float32 is computed with: a recipe says it, training, evaluation and use follow, and a user's process keeps its own settings."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ibllm
from ibllm_core.model import evaluation
from ibllm_core.model.compute import arithmetic
from ibllm_core.training.events import Listener
from ibllm_core.training.job import Interrupted, Job

from .conftest import invoke

pytestmark = pytest.mark.usefixtures("unrehearsed_runs")

PLACES = {
    "CUDA's matrix products": lambda: torch.backends.cuda.matmul,
    "CUDA's convolutions": lambda: torch.backends.cudnn.conv,
    "CUDA's recurrent layers": lambda: torch.backends.cudnn.rnn,
    "the CPU's matrix products": lambda: torch.backends.mkldnn.matmul,
    "the CPU's convolutions": lambda: torch.backends.mkldnn.conv,
    "the CPU's recurrent layers": lambda: torch.backends.mkldnn.rnn,
}


def older_settings() -> tuple[str, bool]:
    """What torch.compile reads, which is refused where it contradicts the newer settings."""
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def settings() -> dict[str, Any]:
    smallest = sys.float_info.min
    found: dict[str, Any] = {name: place().fp32_precision for name, place in PLACES.items()}
    return found | {"subnormal": smallest / 2 > 0, "threads": torch.get_num_threads()}


class Looks(Listener):
    """Looks at the settings when a stage begins, and stops the run."""

    job: Job
    found: dict[str, Any]

    def on_stage_started(self, event: Any) -> None:
        self.found = settings()
        self.job.stop()


@pytest.mark.parametrize(("precision", "products", "said"), [("bf16", "ieee", "bf16"), ("tf32", "tf32", "fp32")])
def test_training_evaluation_and_use_compute_alike(  # type: ignore[no-untyped-def]
    tiny, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, products: str, said: str
) -> None:
    before, looks = settings(), Looks()
    looks.job = Job(tiny("compute.device=cpu", f"compute.precision={precision}"), tmp_path / "trained", [looks])
    with pytest.raises(Interrupted):
        looks.job.run()
    assert {looks.found[name] for name in PLACES} == {products} and not looks.found["subnormal"]
    # What TF32 would be on a card is float32 on a CPU, and the record says what it was.
    assert json.loads((tmp_path / "trained" / "run.json").read_text())["hardware"]["precision"] == said
    assert settings() == before

    seen: list[dict[str, Any]] = []
    measure, draw = evaluation.evaluate, torch.nn.Embedding.forward
    monkeypatch.setattr(evaluation, "evaluate", lambda *given, **how: seen.append(settings()) or measure(*given, **how))  # type: ignore[func-returns-value]
    run = shutil.copytree(finished, tmp_path / "run")
    text = (run / "recipe.toml").read_text()
    recorded = text.replace("[compute]\n", f'[compute]\nprecision = "{precision}"\n')
    assert recorded != text
    (run / "recipe.toml").write_text(recorded)
    assert invoke("evaluate", run, "--items", 1, "--split", "test").exception is None
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda self, ids: seen.append(settings()) or draw(self, ids))  # type: ignore[func-returns-value]
    assert isinstance(ibllm.open(run).model.generate(["a red circle"]), np.ndarray)
    assert len(seen) > 1
    for found in seen:
        assert found | {"threads": 0} == looks.found | {"threads": 0}
    assert settings() == before


@pytest.fixture
def own() -> Iterator[dict[str, Any]]:
    """A process whose user has settings of their own."""
    chosen = {"CUDA's convolutions": "tf32", "CUDA's matrix products": "ieee", "the CPU's matrix products": "bf16"}
    before = {name: PLACES[name]().fp32_precision for name in chosen}
    for values in (chosen, before):
        for name, value in values.items():
            PLACES[name]().fp32_precision = value
        if values is chosen:
            yield settings()


@pytest.mark.parametrize("before", [("highest", True), ("high", False)])
def test_older_settings_agree_within_and_are_back_afterwards(before: tuple[str, bool]) -> None:
    first = older_settings()
    for precision, convolutions in (before, first):
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions
        for tf32, expected in ((True, ("high", True)), (False, ("highest", False))):
            with arithmetic(tf32):
                assert older_settings() == expected
            assert older_settings() == (precision, convolutions)


def test_a_process_has_its_own_settings_back(own: dict[str, Any]) -> None:
    """Also where another context is around it, and where what is within fails."""
    before = own
    with suppress(ZeroDivisionError), arithmetic(tf32=True):
        outer = settings()
        with arithmetic(tf32=False):
            assert {settings()[name] for name in PLACES} == {"ieee"}
        assert settings() == outer and not outer["subnormal"]
        torch.set_num_threads(before["threads"] + 1)
        _ = 1 / 0
    assert settings() == before
