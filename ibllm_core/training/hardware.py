"""What a run used: the machine, for its record, and the most memory that it held."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch

from ..model.compute import available_cores


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run used, for its record."""
    name = getattr(torch.get_device_module(device.type), "get_device_name", None)
    pages = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    return {
        "device": device.type if name is None else name(device),
        "cpu": _proc("cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    } | ({"memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)} if pages else {})


def peak_memory(device: torch.device) -> tuple[int | None, str]:
    """The most bytes that this process has held so far, and of what: allocated on a GPU, resident of the process elsewhere; None where unknown."""
    if (most := getattr(torch.get_device_module(device.type), "max_memory_allocated", None)) is not None:
        return most(device), "device (allocated)"
    # Not ru_maxrss where there is better: on Linux a process starts with that of the one it was started by.
    peak = int(resident.split()[0]) * 1024 if (resident := _proc("self/status", "VmHWM")) else None
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak, "process (resident)"


def _proc(file: str, key: str) -> str:
    path = Path("/proc", file)
    found = re.search(rf"^{key}\s*:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    return found[1].strip() if found else ""
