"""What of a machine a run used, for its record; told where a run goes on on another device."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from ibllm_core.model.compute import available_cores, module_of, precision_of
from ibllm_core.training.events import Listener, ModelBuilt, Prepared


class Machine(Listener):
    """Writes the hardware of a run into its record, and what it was before where the run goes on on other."""

    def on_prepared(self, event: Prepared) -> None:
        session, self._directory = event.session, event.session.directory
        self._now = hardware(session.model.device) | {"precision": precision_of(session.model), "workers": session.workers}
        self._before = self._directory.info().get("hardware", self._now)
        if self._before.get("device") != self._now["device"]:
            so_far, now = self._before.get("device"), self._now["device"]
            session.tell(f"{self._directory.path} was trained on {so_far} so far and goes on on {now}; figures may differ")

    def on_model_built(self, event: ModelBuilt) -> None:
        moved = [] if self._before == self._now else [*self._directory.info().get("hardware_before", []), self._before]
        self._directory.update(hardware=self._now, **({"hardware_before": moved} if moved else {}))


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run used, for its record."""
    name = getattr(module_of(device), "get_device_name", None)
    pages = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    return {
        "device": device.type if name is None else name(device),
        "cpu": _processor() or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    } | ({"memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)} if pages else {})


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    return found[1].strip() if found else ""
