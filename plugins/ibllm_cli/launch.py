"""torchrun's short form: a command in several processes of this machine, by torch's own launcher."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import click

from ibllm_core.errors import UserError

from .interrupts import STOPS, heeded
from .terminal import shown

#: Environment variable of torch's launcher: where a process that fails says why.
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
#: Seconds between looks at the processes: time for the first one to say itself which of them is gone.
_LOOKS = 0.5
#: Seconds that processes have for a checkpoint once they were asked to stop; a second Ctrl-C is quicker.
_PATIENCE = 24 * 3600


def processes(wanted: str, device: str) -> int:
    """How many processes ``--nproc`` asks for.

    Args:
        wanted: a number, or ``auto`` for one a device of this machine's accelerator.
        device: where they are to compute.

    Raises:
        UserError: it is neither, or there is no accelerator to count.
    """
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if wanted != "auto":
        raise UserError(f"--nproc {wanted}: expected a number of processes, or auto for one a GPU")
    import torch

    count = torch.accelerator.device_count() if torch.accelerator.is_available() and device != "cpu" else 0
    if not count:
        why = "they are to compute on the CPU (compute.device)" if device == "cpu" else "there is no GPU here"
        raise UserError(f"--nproc auto is one process a GPU, and {why}; say how many: --nproc 2")
    return count


def launch(words: Sequence[str], count: int, threads: int) -> int:
    """Runs ``ibllm WORD …`` in so many processes until all have ended, and gives the exit code. The first one has the terminal.

    Args:
        threads: that each is to have, where it does not say so itself; 0 for its share of the cores.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from ibllm_core.model.compute import available_cores

    _silence()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
    said = {"OMP_NUM_THREADS": str(max(1, available_cores() // count))} if threads == 0 else {}
    # A process that nohup has told to outlive its terminal does.
    said |= {"TORCHELASTIC_SIGNALS_TO_HANDLE": ",".join(number.name for number in (*heeded(), signal.SIGQUIT))}
    said = {name: value for name, value in said.items() if name not in os.environ} | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_PATIENCE)}
    os.environ |= said
    with tempfile.TemporaryDirectory(prefix="ibllm-", ignore_cleanup_errors=True) as folder:
        config = LaunchConfig(
            1, 1, count,
            # What the others say, the first one says too.
            logs_specs=DefaultLogsSpecs(folder, dict.fromkeys(range(1, count), Std.ALL)),
            run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
            monitor_interval=_LOOKS,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-m", "ibllm", *words)
        except SignalException as stopped:  # all have ended
            return 128 + signal.SIGINT if stopped.sigval in STOPS else 128 + stopped.sigval
        except ChildFailedError as error:
            root, failure = error.get_first_failure()
            code = failure.exitcode if failure.exitcode > 0 else 2
            if not any(Path(folder).rglob("attempt_*/0/error.json")) and code != 128 + signal.SIGINT:
                click.echo(f"error: {shown(_why(root, failure.pid, failure.exitcode, failure.message), lines=True)}", err=True)
            return code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for name in said:
                os.environ.pop(name, None)
    return 0


def _why(rank: int, process: int, code: int, message: object) -> str:
    """Why a process has failed, where the first one did not say it."""
    if code >= 0:
        return f"rank {rank}: {message}"
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    killed = "by somebody or by the system for want of memory (dmesg says so)"
    return f"rank {rank} (process {process}) was ended by {name}, {killed}; the run goes on with --resume"


def report(error: BaseException) -> None:
    """Tells torch's launcher, where this process was started by it, why the process fails."""
    if path := os.environ.get(ERROR_FILE):
        said = {"message": str(error) or type(error).__name__, "timestamp": int(time.time())}
        Path(path).write_text(json.dumps(said), encoding="utf-8")


def _silence() -> None:
    """What torch's launcher logs of how it works is not for the terminal."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
