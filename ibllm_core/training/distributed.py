"""Many processes, one job, started by ``torchrun``: how they come together and part."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from ..model.ranks import Ranks


def first_process() -> bool:
    """Whether this is the first process, known before it joins the others."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def join(device: torch.device) -> Ranks:
    """Joins the group that ``torchrun`` describes in the environment, if there is one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
