"""Where and how precisely: the recipe's ``[compute]`` table made real."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from ..errors import UserError
from ..interfaces.image import DrawingDecoder
from ..interfaces.noise import leave_uncompiled
from ..interfaces.text import TextDecoder
from ..recipe.schema import Compute

if TYPE_CHECKING:
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


def precision_of(model: Model) -> str:
    """What a model computes in on its device: ``bf16``, ``tf32`` or ``fp32``."""
    if model.autocast is not None:
        return "bf16"
    return "tf32" if model.tf32 and model.device.type == "cuda" else "fp32"


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """How this process computes with float32: the one place that says so, for training, measuring and using a model.

    Within, products of matrices, convolutions and recurrent layers are IEEE's, or with `tf32` TF32's on devices that have it, and subnormal numbers
    are zero. Afterwards this and the number of threads are as before: the process may be somebody's notebook.
    """
    backends = cast(Any, torch.backends)  # whose types are not told
    cudnn, cpu = backends.cudnn, backends.mkldnn
    kinds = (backends.cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    before, threads, smallest = [kind.fp32_precision for kind in kinds], torch.get_num_threads(), sys.float_info.min
    flushed = smallest / 2 == 0
    # Saturated softmaxes fill gradients and moments with subnormal numbers, on which CPUs are many times slower; threads inherit
    # the setting when they are made, so it comes before the first operation that makes them.
    torch.set_flush_denormal(True)
    for kind in kinds:
        kind.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(threads)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(model: Model, compute: Compute) -> torch.device:
    """Moves the model to its device, sets threads and precision, compiles the parts' passes if asked."""
    device = choose_device(compute.device)
    torch.set_num_threads(compute.threads or available_cores())
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
    model.to(device)
    model.autocast, model.tf32 = choose_precision(compute.precision, device), compute.precision == "tf32"
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
