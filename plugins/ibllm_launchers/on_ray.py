"""The launcher `ray`: a Ray cluster whose machines share the study's directory. Torch-free."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from ibllm.launching import Ended, Launcher, Place, Task, environment
from ibllm_core.errors import UserError
from ibllm_core.host.options import Config, option


@attrs.frozen(kw_only=True)
class RayConfig(Config):
    """Tasks of a Ray cluster. All machines have the study's directory, and this environment, under the same paths."""

    address: str = option("", help='of the cluster, "HOST:6379" or "auto"; a cluster of this machine alone when left out')
    jobs: int = option(100, help="tasks that wait or are computed at a time, unless --jobs says otherwise", ge=1)
    gpus: float = option(0.0, help="GPUs of a task; tasks may share one: 0.25", ge=0)
    resources: tuple[str, ...] = option((), help='further resources that a task takes, "NAME=AMOUNT"')


class Ray(Launcher):
    """A Ray actor a task, so that it can be stopped with a checkpoint; one that a dead machine took along is lost, and the study tries it again."""

    options_class: ClassVar[type[Config]] = RayConfig
    again = 5.0

    def __init__(self, options: RayConfig, place: Place) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(f"the launcher ray: {error}; pip install 'ibllm[ray]'") from error
        self._ray: Any = ray
        self.jobs = place.jobs or options.jobs
        try:
            ray.init(address=options.address or "local", log_to_driver=False, logging_level="error", include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"the launcher ray: {options.address or 'a cluster of this machine'}: {error}") from error
        amounts = dict(text.partition("=")[::2] for text in options.resources)
        self._actor: Any = ray.remote(
            num_cpus=place.threads,
            num_gpus=options.gpus,
            max_restarts=0,
            # `compute` waits for the command; `begun` and `stop` are answered meanwhile.
            max_concurrency=2,
            resources={name: float(amount) for name, amount in amounts.items()},
        )(Command)
        self._started: dict[str, tuple[Any, Any, Any]] = {}

    def start(self, task: Task) -> None:
        actor = self._actor.remote()
        begun = actor.begun.remote()
        self._started[task.name] = (actor, begun, actor.compute.remote(list(task.command), str(task.log.absolute()), task.threads))

    def ended(self) -> Mapping[str, Ended]:
        by_reference = {codes: name for name, (_, _, codes) in self._started.items()}
        ready, _ = self._ray.wait(list(by_reference), num_returns=len(by_reference), timeout=0) if by_reference else ([], [])
        found = {}
        for reference in ready:
            name = by_reference[reference]
            try:
                found[name] = Ended(code=int(self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                found[name] = Ended(code=None, reason=str(error).strip().splitlines()[0])
            actor, _, _ = self._started.pop(name)
            self._ray.kill(actor)
        return found

    def begun(self, name: str) -> bool:
        return bool(self._ray.wait([self._started[name][1]], timeout=0)[0]) if name in self._started else False

    def stop(self, name: str, now: bool = False) -> None:
        if name not in self._started:
            return
        actor = self._started[name][0]
        if now or not self.begun(name):
            self._ray.kill(actor)
        else:
            actor.stop.remote()

    def wait(self, seconds: float) -> None:
        codes = [codes for _, _, codes in self._started.values()]
        if codes:
            self._ray.wait(codes, num_returns=1, timeout=seconds)
        else:
            super().wait(seconds)

    def close(self) -> None:
        for name in list(self._started):
            self.stop(name, now=True)
        self._ray.shutdown()


class Command:
    """One task in a process of Ray's: the command hears of it when that process goes, by the end of its standard input."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def begun(self) -> bool:
        """Answers once a machine has taken the task."""
        return True

    def compute(self, command: list[str], log: str, threads: int) -> int:
        """The command's exit code."""
        if self.stopped:
            return -signal.SIGTERM
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment(threads)
            )
        return self.process.wait()

    def stop(self) -> None:
        """Asks the command to stop with a checkpoint."""
        self.stopped = True
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
