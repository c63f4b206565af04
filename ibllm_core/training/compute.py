"""Where and how precisely: the recipe's ``[compute]`` table made real."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..interfaces.image import DrawingDecoder
from ..interfaces.text import TextDecoder
from ..model import Model
from ..noise import leave_uncompiled
from ..recipe.schema import Compute


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


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run used, for its record."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return found


def peak_memory(device: torch.device) -> dict[str, Any]:
    """The most memory that this process has held so far: what is allocated on a GPU, what is resident of the process elsewhere; None where unknown."""
    if device.type == "cuda":
        return {"peak_bytes": torch.cuda.max_memory_allocated(device), "of": "device (allocated)"}
    return {"peak_bytes": _peak_resident(), "of": "process (resident)"}


def _peak_resident() -> int | None:
    # Not ru_maxrss where there is better: on Linux a process starts with that of the one it was started by.
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
