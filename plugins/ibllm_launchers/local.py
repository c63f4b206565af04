"""The launcher `local`: processes of this machine, spread over its devices. Torch-free."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping
from typing import ClassVar

import attrs

from ibllm.launching import Ended, Launcher, Place, Task, environment
from ibllm_core.host.options import Config


@attrs.frozen(kw_only=True)
class LocalConfig(Config):
    """Processes of this machine; how many is said by --jobs, and on which devices by --devices."""


@attrs.define
class _Started:
    process: subprocess.Popen[bytes]
    device: str
    watched: int | None


class Local(Launcher):
    """Each task is a process in a group of its own, on the device that has the fewest."""

    options_class: ClassVar[type[Config]] = LocalConfig

    def __init__(self, options: LocalConfig, place: Place) -> None:
        self._devices = place.devices
        self.jobs = place.jobs or choose_jobs(place.devices, place.threads)
        self._started: dict[str, _Started] = {}

    def start(self, task: Task) -> None:
        device = min(self._devices, key=lambda name: sum(started.device == name for started in self._started.values()))
        # The pipe ends when this process is gone, and the task stops then, with a checkpoint.
        with task.log.open("ab") as output:
            process = subprocess.Popen(
                task.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(task.threads), "CUDA_VISIBLE_DEVICES": visible(device)},
                start_new_session=True,
            )
        watched = None
        with contextlib.suppress(AttributeError, OSError):
            watched = os.pidfd_open(process.pid)
        self._started[task.name] = _Started(process, device, watched)

    def ended(self) -> Mapping[str, Ended]:
        codes = {name: started.process.poll() for name, started in self._started.items()}
        found = {name: Ended(code=code) for name, code in codes.items() if code is not None}
        for name in found:
            self._forget(name)
        return found

    def stop(self, name: str, now: bool = False) -> None:
        started = self._started.get(name)
        if started is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL if now else signal.SIGTERM)
        if now:
            started.process.wait()

    def wait(self, seconds: float) -> None:
        watched = [started.watched for started in self._started.values() if started.watched is not None]
        if len(watched) < len(self._started) or not watched:
            super().wait(seconds)
        else:
            select.select(watched, [], [], seconds)

    def close(self) -> None:
        for name in list(self._started):
            self.stop(name, now=True)
            self._forget(name)

    def _forget(self, name: str) -> None:
        started = self._started.pop(name)
        if started.process.stdin is not None:
            started.process.stdin.close()
        if started.watched is not None:
            os.close(started.watched)


def visible(device: str) -> str:
    """CUDA_VISIBLE_DEVICES of a task, which sees its own device only. Where not all are ours, ``cuda:1`` is the second of those that are."""
    kind, _, number = device.partition(":")
    ours = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (ours[int(number)] if ours else number) if kind == "cuda" else ""


def choose_jobs(devices: tuple[str, ...], threads: int) -> int:
    """One task a CUDA device; on the CPU as many as the cores take."""
    cuda = [name for name in devices if name != "cpu"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(cuda) if cuda else max(1, cores // threads)
