"""A hint where steps take far longer than they compute: other programs use the cores, or data are slow to come."""

from __future__ import annotations

import time

import torch

from ibllm_core.training.events import Listener, Logged, StageStarted, TrainerBuilt

#: Steps that take so many times as long as they compute are worth a word, if they took so many seconds up to the first row of figures.
TIMES, SECONDS = 4.0, 15.0


class SlowSteps(Listener):
    """Tells of it once, at the first row of figures of a stage that is trained on the CPU."""

    def __init__(self) -> None:
        self._since: tuple[float, float] | None = None
        self._told = False

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        self._session = event.session

    def on_stage_started(self, event: StageStarted) -> None:
        on_cpu = self._session.model.device.type == "cpu"
        self._since = (time.perf_counter(), computed()) if on_cpu and not self._told else None

    def on_logged(self, event: Logged) -> None:
        if event.kind != "train" or self._since is None:
            return
        (wall, busy), self._since = self._since, None
        wall, busy = time.perf_counter() - wall, computed() - busy
        if wall >= SECONDS and wall > TIMES * busy:
            self._told = True
            threads = torch.get_num_threads()
            fewer = "; compute.threads = 1 (--set compute.threads=1) may be faster" if threads > 1 else ""
            self._session.tell(
                f"stage {event.stage}: steps take {min(wall / max(busy, 1e-9), 999):.0f} times as long as they compute, with threads = {threads}: "
                f"other programs use these cores, or data are slow to come{fewer}"
            )


def computed() -> float:
    """Seconds for which a thread has computed: this one, or the mean of those that torch computes with, whichever is more."""
    return max(time.thread_time(), time.process_time() / torch.get_num_threads())
