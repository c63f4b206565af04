"""A job that is asked to stop at a known iteration."""

from __future__ import annotations

from ibllm_core.training.events import Listener, Stepped
from ibllm_core.training.job import Job


class StopAt(Listener):
    """Asks the job to stop once `steps` iterations are done over all stages."""

    def __init__(self, steps: int) -> None:
        self.job: Job | None = None
        self.left = steps

    def on_stepped(self, event: Stepped) -> None:
        self.left -= 1
        if self.left == 0:
            assert self.job is not None
            self.job.stop()
