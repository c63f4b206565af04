"""Many processes, one job, started by ``torchrun``: how they come together and part, and which of them is gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..errors import UserError
from ..model.shares import Ranks

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: Rank → (machine, process id, what launched it), once the processes have met.
_peers: list[Any] = []


def described() -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine) as ``torchrun`` says them in the environment; (0, 1, 0) where it says nothing.

    Raises:
        UserError: the variables make no sense, or some are missing.
    """
    given = {name: value for name in dict.fromkeys((*_NUMBERS, *_NEEDED)) if (value := os.environ.get(name, "").strip())}

    def wrong(problem: str) -> NoReturn:
        way = "torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT: torchrun --nproc-per-node N -m ibllm run …"
        raise UserError(f"{problem}. For several processes {way}; for one: unset {' '.join(given)}")

    for name in _NUMBERS:
        if not given.get(name, "0").isdecimal():
            wrong(f"the environment has {name}={given[name]!r}, which is no whole number")
    rank, count, local = (int(given.get(name, usual)) for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")))
    said = " ".join(f"{name}={value}" for name, value in given.items())
    missing = [name for name in _NEEDED if name not in given]
    if (count > 1 or rank or local) and missing:
        wrong(f"the environment has {said}, which is one of several processes, but no {', '.join(missing)}")
    if max(rank, local) >= count:
        wrong(f"the environment has {said}: expected ranks from 0 to WORLD_SIZE - 1")
    return rank, count, local


def first_process() -> bool:
    """Whether this is the first process, known before it joins the others."""
    return described()[0] == 0


def _launcher() -> str:
    """What starts this process and others, and starts them again where one dies: torchrun's job, or its process where the job has no name; or empty."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return f"{socket.gethostname()}:{os.getppid()}" if job == "none" else job


def launchers() -> list[str]:
    """What the processes of this run were launched by, for its record; empty where they were started by hand."""
    return sorted(({launcher for *_, launcher in _peers} or {_launcher()}) - {""})


def started_again(launched: Collection[str]) -> bool:
    """Whether these processes were started again, after a failure or with other machines, by what a run was `launched` by."""
    return _launcher() in launched


def join(device: torch.device) -> Ranks:
    """Joins the group that ``torchrun`` describes in the environment, if there is one. Raises `UserError` where it does not come together."""
    _, count, _ = described()
    if count == 1:
        return Ranks()
    if device.type == "xla":
        raise UserError(f"device {device}: {count} processes; expected one, which is what runs on XLA's devices are tested for")
    try:
        if not dist.is_initialized():
            # torchrun keeps its store over restarts, and with it the addresses of processes that are gone.
            store, rank, count = next(rendezvous("env://"))
            fresh = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-of-{count}", store)
            backend = dist.get_default_backend_for_device(device)
            dist.init_process_group(backend, store=fresh, rank=rank, world_size=count)
        _peers[:] = [None] * count
        dist.all_gather_object(_peers, (socket.gethostname(), os.getpid(), _launcher()))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(f"the {count} processes of this run do not come together at {where} (MASTER_ADDR, MASTER_PORT): {error}") from error
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def who_is_gone() -> str:
    """Which other process of the run is gone, as far as this machine can see."""
    here, until = socket.gethostname(), time.monotonic() + 2
    while (
        not (gone := [rank for rank, (host, pid, _) in enumerate(_peers) if host == here and not _alive(pid)]) and time.monotonic() < until
    ):
        time.sleep(0.05)
    if not gone:
        machines = ", ".join(sorted({host for host, *_ in _peers} - {here}))
        return "another process of this run does not answer" + (
            f"; the others are on {machines}: what they wrote says why" if machines else ""
        )
    named = " and ".join(f"rank {rank} (process {_peers[rank][1]})" for rank in gone)
    killed = "it was killed, by somebody or by the system for want of memory (dmesg says so)"
    return f"{named} of this run is gone; where its own output does not say why, {killed}; the run goes on with --resume"


def _alive(process: int) -> bool:
    """False for a process that has ended, though nobody has asked after it yet; True where that cannot be seen."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not Path("/proc/self/stat").exists()
