"""A run whose optimizers keep more than moments, or train at other weights than those that are used, goes on bit for bit too."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ibllm_core.training.job import Interrupted, Job
from tests.stopping import StopAt

pytestmark = [
    pytest.mark.usefixtures("plain_runs"),
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("schedulefree") is None, reason="the extra schedulefree is not installed"),
    pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9"),
]

#: The stage's last validation is its best or not, a restart comes before or after it: both optimizers in both roles.
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "training.ema=0.0",
    "stages.image.steps=0",
    "stages.text.schedule={use='constant', warmup=2}",
    "stages.joint.steps=3",
)


@pytest.mark.parametrize(("model", "critic"), [("schedule_free", "muon"), ("muon", "schedule_free")])
def test_weights_are_bit_identical_after_a_restart(tiny, tmp_path: Path, model: str, critic: str) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny(*SETS, f"optimizer={{use='{model}', lr=0.003}}", f"players.critic.optimizer={{use='{critic}', lr=0.001}}")
    results = Job(recipe, tmp_path / "whole").run()
    for steps in (6, 10):
        path = tmp_path / f"after-{steps}"
        listener = StopAt(steps)
        listener.job = Job(recipe, path, [listener])
        with pytest.raises(Interrupted):
            listener.job.run()
        assert Job(recipe, path).run(resume=True) == results
        weights = [load_file(folder / "model" / "weights.safetensors") for folder in (tmp_path / "whole", path)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    stages = json.loads((tmp_path / "whole" / "run.json").read_text())["stages"]
    assert [stage["done"] for stage in stages] == [8, 3]
