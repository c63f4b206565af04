"""The launcher `submitit`: a SLURM cluster whose machines share the study's directory. Torch-free.

A task's exit code is a file that the job writes: it is there whoever asks, and however long after. Whether a job is still on its way is asked of
``squeue``, once for all of them: unlike ``sacct`` it needs no accounting database.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import attrs

from ibllm.launching import Ended, Launcher, Place, Task, environment
from ibllm_core.errors import UserError
from ibllm_core.host.options import Config, option

#: States in which a job is on its way, and those of them in which it is being computed.
ON_ITS_WAY = frozenset(
    "PENDING CONFIGURING RUNNING COMPLETING SUSPENDED STOPPED REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING SIGNALING STAGE_OUT".split()  # noqa: SIM905
)
COMPUTING = frozenset("RUNNING COMPLETING SUSPENDED STOPPED SIGNALING STAGE_OUT".split())  # noqa: SIM905
#: Looks in a row that must miss a job before it counts as gone: its exit code may still be on its way over the file system.
MISSED = 3


@attrs.frozen(kw_only=True)
class SlurmConfig(Config):
    """Jobs of a SLURM cluster, submitted by submitit. All machines have the study's directory, and this environment, under the same paths."""

    jobs: int = option(100, help="jobs that are in the queue or running at a time, unless --jobs says otherwise", ge=1)
    partition: str = option("", help="the partition; the cluster's own choice when left out")
    account: str = option("", help="the account that pays")
    qos: str = option("", help="the quality of service")
    minutes: int = option(1440, help="the longest time that a job may take; a run that was cut off goes on from its last checkpoint", ge=1)
    memory_gb: float = option(0.0, help="memory of a job in GB; 0 for the cluster's own choice", ge=0)
    gpus: int = option(0, help="GPUs of a job", ge=0)
    constraint: str = option("", help="features that the machine has to have")
    look: float = option(5.0, help="seconds between two looks at the queue", gt=0)
    more: tuple[str, ...] = option((), help='further options of sbatch, "NAME=VALUE"')


@attrs.define
class _Submitted:
    job: str
    code: Path
    state: str = "PENDING"
    missed: int = 0


class Slurm(Launcher):
    """A job a task; a job that a dead machine took along is lost, and the study tries it again."""

    options_class: ClassVar[type[Config]] = SlurmConfig
    again = 30.0

    def __init__(self, options: SlurmConfig, place: Place) -> None:
        try:
            from submitit import SlurmExecutor
        except ImportError as error:
            raise UserError(f"the launcher submitit: {error}; pip install 'ibllm[slurm]'") from error
        if SlurmExecutor.affinity() < 0:
            raise UserError("the launcher submitit: srun is not here: expected a machine that submits jobs to a SLURM cluster")
        self._options, self._folder = options, place.folder.absolute() / "slurm"
        self.jobs = place.jobs or options.jobs
        self._executor: Any = SlurmExecutor(self._folder / "%j")
        self._submitted: dict[str, _Submitted] = {}
        self._looked = 0.0
        self._queue: dict[str, str] | None = None

    def start(self, task: Task) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        held, code = self._folder / f"{task.name}.job", self._folder / f"{task.name}.code"
        job = held.read_text(encoding="utf-8").strip() if held.is_file() else ""
        if not job or code.is_file() or self._states().get(job) not in ON_ITS_WAY:
            code.unlink(missing_ok=True)
            self._executor.update_parameters(**self._parameters(task))
            job = str(self._executor.submit(compute, list(task.command), str(task.log.absolute()), task.threads, str(code)).job_id)
            held.write_text(job + "\n", encoding="utf-8")
        self._submitted[task.name] = _Submitted(job, code)

    def _parameters(self, task: Task) -> dict[str, Any]:
        own = self._options
        named = {"partition": own.partition, "account": own.account, "qos": own.qos, "constraint": own.constraint}
        more = dict(text.partition("=")[::2] for text in own.more)
        return {
            "job_name": task.name,
            "time": own.minutes,
            "cpus_per_task": task.threads,
            "ntasks_per_node": 1,
            # What was cut off is tried again by the study, not by submitit, which would start it from its pickle.
            "signal_delay_s": 90,
            "use_srun": True,
            **({"mem": f"{own.memory_gb:g}GB"} if own.memory_gb else {}),
            **({"gres": f"gpu:{own.gpus}"} if own.gpus else {}),
            **{key: value for key, value in named.items() if value},
            **({"additional_parameters": more} if more else {}),
        }

    def ended(self) -> Mapping[str, Ended]:
        found: dict[str, Ended] = {}
        asked = time.monotonic() - self._looked >= self._options.look
        states = self._states() if self._submitted and asked else None
        for name, submitted in self._submitted.items():
            code = _read(submitted.code)
            if code is not None:
                found[name] = Ended(code=code)
            elif states is not None:
                submitted.state = states.get(submitted.job, "gone")
                submitted.missed = 0 if submitted.state in ON_ITS_WAY else submitted.missed + 1
                if submitted.missed >= MISSED:
                    found[name] = Ended(code=None, reason=f"job {submitted.job} ended without an exit code ({submitted.state})")
        for name in found:
            del self._submitted[name]
        return found

    def begun(self, name: str) -> bool:
        return name in self._submitted and self._submitted[name].state in COMPUTING

    def stop(self, name: str, now: bool = False) -> None:
        submitted = self._submitted.get(name)
        if submitted is None:
            return
        waits = self._states().get(submitted.job) == "PENDING"
        words = [] if now or waits else ["--signal=TERM"]
        subprocess.run(["scancel", *words, submitted.job], check=False, capture_output=True)
        if now or waits:
            _write(submitted.code, -signal.SIGTERM)

    def _states(self) -> dict[str, str]:
        """Job → its state, of those that the cluster still knows; where it does not answer, what it said last."""
        self._looked = time.monotonic()
        words = ["squeue", "--noheader", "--states=all", "--format=%i %T", "--me"]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            self._queue = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) > 1)
        elif self._queue is None:
            raise UserError(f"the launcher submitit: squeue failed: {done.stderr.strip() or done.returncode}")
        return self._queue


def compute(command: list[str], log: str, threads: int, code: str) -> int:
    """What a job does: runs the command, which hears of it when this process goes, and leaves its exit code."""
    # SLURM signals all processes of a job. USR2 says that its time is nearly over: the command is to hear of that as it hears of everything else.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment(threads))
    signal.signal(signal.SIGUSR2, lambda number, frame: process.send_signal(signal.SIGTERM))
    # The command answers it with a checkpoint, and this stays to tell how it ended.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ended = process.wait()
    _write(Path(code), ended)
    return ended


def _write(path: Path, code: int) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"code": code}), encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads(path.read_text(encoding="utf-8"))["code"])
    return None
