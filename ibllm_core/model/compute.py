"""Where and how precisely: the recipe's ``[compute]`` table made real."""

from __future__ import annotations

import os

import torch

from ..errors import UserError
from ..interfaces.image import DrawingDecoder
from ..interfaces.noise import leave_uncompiled
from ..interfaces.text import TextDecoder
from ..recipe.schema import Compute
from .model import Model


def choose_device(wanted: str) -> torch.device:
    """``auto``: CUDA where there is one. Raises `UserError` for a device that is not there."""
    if wanted == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"compute.device = {wanted!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"compute.device = {wanted!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_precision(wanted: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for fp32. bf16 autocast is many times slower than fp32 on CPUs without bf16 units."""
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.bfloat16 if wanted == "bf16" else None


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(model: Model, compute: Compute) -> torch.device:
    """Moves the model to its device, sets threads and precision, compiles the parts' passes if asked."""
    device = choose_device(compute.device)
    torch.set_num_threads(compute.threads or available_cores())
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
        torch.backends.cuda.matmul.allow_tf32 = True
    model.to(device)
    model.autocast = choose_precision(compute.precision, device)
    if compute.compile:
        compile_parts(model)
    return device


def compile_parts(model: Model) -> None:
    """Compiles the passes that training spends its time in. The critic stays eager: a compiled pass has no second derivative."""
    leave_uncompiled()
    for name, part in model.parts.items():
        if name == "discriminator":
            continue
        if isinstance(part, DrawingDecoder):
            part.draw = torch.compile(part.draw)  # type: ignore[method-assign]
        elif isinstance(part, TextDecoder):
            part.logits = torch.compile(part.logits)  # type: ignore[method-assign]
        else:
            part.compile()
