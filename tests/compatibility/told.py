"""What is written down of the runs when they are made, and looked at again when they are opened: one place, so that both mean the same."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

CAPTIONS = ["a small red circle at the top left", "a large blue triangle at the bottom right", "a large green square at the top right"]
#: Items of the split `test` that are captioned.
ITEMS = 8


def digest(*arrays: Any) -> str:
    """SHA-256 of the arrays' bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(array.tobytes())
    return found.hexdigest()


def versions() -> dict[str, str]:
    """What the names of a study's runs depend on, beside the recipe."""
    return {"ibllm": version("ibllm"), "torch": version("torch"), "python": platform.python_version()}


def arithmetic() -> str:
    """A digest of some floating-point work, forth and back: where it is another one, the CPU or torch rounds otherwise, and no bits can be equal."""
    import torch
    from torch.nn import functional

    def numbers(*shape: int) -> torch.Tensor:
        return torch.linspace(-1, 1, torch.Size(shape).numel()).sin().reshape(shape).requires_grad_()

    images, kernels, weights = numbers(16, 16, 16, 16), numbers(24, 16, 3, 3), numbers(24, 48)
    places = functional.conv2d(images, kernels, padding=1).flatten(2).transpose(1, 2)
    mixed = functional.layer_norm(functional.gelu(places @ weights), (48,))
    out = functional.scaled_dot_product_attention(mixed[:, None], mixed[:, None], mixed[:, None]).log_softmax(-1)
    out.square().mean().backward()
    return digest(*(tensor.detach().numpy() for tensor in (out, images.grad, kernels.grad, weights.grad)))


def seen(run: Any) -> dict[str, Any]:
    """What a finished run shows through Python."""
    model, samples = run.model, run.dataset.samples("test", list(range(ITEMS)))
    drawn = model.generate(CAPTIONS, seed=0)
    return {
        "images": digest(samples.images),
        "captions": list(samples.captions),
        "drawn": digest(drawn),
        "drawn_mean": float(drawn.mean()),
        "read": model.caption(samples.images),
        "read_of_drawn": model.caption(drawn),
    }


def figures(text: str) -> dict[str, float]:
    """A flat table of figures."""
    found: dict[str, float] = json.loads(text)
    return found


def last_losses(run: Path) -> dict[str, float]:
    """What the run logged of its last step."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [row for row in rows if row["kind"] == "train"][-1]
    return {"step": last["step"]} | {name: value for name, value in last.items() if name.startswith(("loss/", "grad_norm/", "lr/"))}


def weights(run: Path) -> str:
    """SHA-256 of the trained weights' file."""
    return hashlib.sha256((run / "model" / "weights.safetensors").read_bytes()).hexdigest()
