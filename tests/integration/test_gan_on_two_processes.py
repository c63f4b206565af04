"""A GAN with every option, watched, in two processes: weights, alarms and rates are those of one. About twenty seconds of two cores.

``python -m pytest tests/integration/test_gan_on_two_processes.py -n 0``
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

WATCH = Path(__file__).parents[1] / "watch"
#: Plain descent, since a step of Adam has the same size for a gradient that is nothing but rounding; a critic that wins, so that the run goes back.
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "evaluation.items=2",
    "evaluation.samples=1",
    'losses.adversarial={use="relativistic", mismatched=0.5, augment=["translation","cutout"], augment_target=0.6, augment_images=200}',
    'losses.adaptive={use="adaptive_weight", scale=0.5}',
    "stages.gan.losses={image_nll=false, adversarial=false, adaptive=1.0, penalty=1.0}",
    'model.discriminator={use="dcgan", channels=[8,16], width=8, minibatch=4}',
    'optimizer={use="sgd", lr=1e-3}',
    'players.critic.optimizer={use="sgd", lr=1e-7}',
    "training.watch.action=roll_back",
    "training.watch.patience=2",
    "training.watch.most=2",
    "training.checkpoint_every=2",
    "training.keep=20",
    "stages.gan.steps=24",
)


def run(path: Path, processes: int) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m"]
    launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    sets = [word for one in SETS for word in ("--set", one)]
    env = os.environ | {"IBLLM_BLOCK": "report,rehearsal,contracts", "OMP_NUM_THREADS": "1"}
    command = [*launch, "ibllm", "run", str(WATCH / "gan.toml"), "--run-dir", str(path), *sets]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    done = [run(tmp_path / str(count), count) for count in (1, 2)]
    infos = [json.loads((tmp_path / str(count) / "run.json").read_text(encoding="utf-8")) for count in (1, 2)]
    assert infos[0]["watch"]["alarms"], done[0].stderr
    kept = [[(a["symptom"], a["step"], a["action"], a["to"]) for a in info["watch"]["alarms"]] for info in infos]
    assert kept[0] == kept[1] and [one[2] for one in kept[0]] == ["rolled back", "rolled back", "stopped"], (kept, done[1].stderr)
    assert [one.returncode != 0 for one in done] == [True, True]
    weights = [load_file(max((tmp_path / str(count) / "checkpoints").glob("step-*")) / "weights.safetensors") for count in (1, 2)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
