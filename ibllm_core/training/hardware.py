"""What a run used: the machine, for its record, and the most memory that it held."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from ..model.compute import available_cores


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run used, for its record."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _proc("cpuinfo", "model name") or platform.processor() or platform.machine(),
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
    # Not ru_maxrss where there is better: on Linux a process starts with that of the one it was started by.
    resident = _proc("self/status", "VmHWM")
    if resident:
        peak: int | None = int(resident.split()[0]) * 1024
    elif sys.platform == "win32":
        peak = None
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak_bytes": peak, "of": "process (resident)"}


def _proc(file: str, key: str) -> str:
    """The first value of a key in a file of /proc; empty where there is none."""
    try:
        lines = Path("/proc", file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
