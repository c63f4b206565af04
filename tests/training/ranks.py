"""One process of several that train as one: ``ranks.py FOLDER``. It plays every case of `CASES` and leaves in FOLDER what the model has then."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ibllm.sharding import begin
from ibllm_core.model.compute import arithmetic
from ibllm_core.model.sharding import whole
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.session import Session

TINY = Path(__file__).with_name("tiny.toml")
#: Dropout is keyed by the sample, so it may stay; Adam's first steps would blow up rounding, so plain SGD.
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "losses.contrast={use='contrastive'}",
    "stages.joint.losses.contrast=0.5",
    "optimizer={use='sgd', lr=0.01, momentum=0.5}",
    "players.critic.optimizer={use='sgd', lr=0.01}",
    "losses.penalty.every=2",
)
#: Name → keys, and the steps of each stage. Items fall on 2 processes as 3 and 2, and on their micro-batches as 2, 1, 1 and 1.
SHARED = (
    "model.shared.tower={use='transformer', heads=2, dropout=0.1}",
    "model.image_encoder={use='vit', heads=2, depth=1, backbone='tower'}",
    "model.text_encoder.backbone='tower'",
    "stages.text.train=['text_encoder', 'image_decoder', 'tower']",
)
CASES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "steps": (("training.batch=5", *SHARED), 20),
    "micro-batches": (("training.batch=7", "training.accumulate=3", "compute.activation_checkpointing=true"), 20),
    "shards": (("training.batch=5", "training.accumulate=2", "compute.shard=true", "compute.activation_checkpointing=true", *SHARED), 3),
    "perturbed": (
        (
            "training.batch=5",
            "training.accumulate=2",
            "losses.agree={use='robust_consistency'}",
            "stages.image.losses.agree=1.0",
            "stages.image.perturb={use='pgd', norm='l2', epsilon=0.1, steps=2, share=0.6}",
            "stages.joint.perturb={use='pgd', norm='l2', epsilon=0.1, steps=1, of='text', against='drawing'}",
        ),
        3,
    ),
    "micro-batches of unequal shares": (("training.batch=9", "training.accumulate=4"), 1),
}


def train(folder: Path, name: str) -> None:
    """Every stage's first gradients and last weights, and the last checkpoint, in the first process."""
    sets, steps = CASES[name]
    recipe = load(TINY, (*SETS, *sets))
    found: dict[str, Tensor] = {}
    with arithmetic(False):
        session = Session(recipe, RunDirectory(folder / f"{name} run"))
        if recipe.compute.shard and session.ranks.count > 1:
            begin(session)
        for stage in recipe.running():
            trainer = session.trainer(stage)
            feeder = session.feeder(stage)
            batches = iter(feeder)
            for step in range(steps):
                trainer.iterate(next(batches))
                if step == 0:
                    gradients = {
                        f"{p}.{n}": w.grad for player in trainer.players for p in [player.name] for n, w in player.parameters.items()
                    }
                    found |= {f"{stage.name}: the gradient of {n}": whole(g).clone() for n, g in gradients.items() if g is not None}
            feeder.close()
            found |= {f"{stage.name}: {n}": whole(t).clone() for n, t in session.shared()["weights"].items()}
            found |= {f"{stage.name}: {n}": torch.tensor(value) for n, value in trainer.read().items()}
        session.save(len(recipe.running()) - 1, trainer)
    saved, _ = checkpoints.newest(session.directory.checkpoints)
    assert saved is not None
    found |= {f"checkpoint: {group}: {n}": t for group, tensors in saved.tensors.items() for n, t in tensors.items()}
    if session.ranks.first:
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / f"{name}.safetensors")


if __name__ == "__main__":
    for case in CASES:
        train(Path(sys.argv[1]), case)
