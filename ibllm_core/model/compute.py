"""Where and how precisely: the recipe's ``[compute]`` table made real; and the memory that it took."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ..errors import Notice, UserError
from ..recipe.schema import Compute

if TYPE_CHECKING:
    from .model import Model


def devices() -> tuple[str, ...]:
    """What there is to compute on: ``cpu``, then every device of this machine's accelerator (``cuda:0``, …)."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ("cpu", *(f"{found.type}:{number}" for number in range(torch.accelerator.device_count()))) if found is not None else ("cpu",)


def _xla_devices() -> tuple[str, ...]:
    """Those of torch_xla, which computes eagerly from here on. It takes hold of them, so they are counted where one is asked for only."""
    if find_spec("torch_xla") is None:
        return ()
    xla = import_module("torch_xla")
    xla.experimental.eager_mode(True)
    return tuple(f"xla:{number}" for number in range(xla.runtime.addressable_runtime_device_count()))


def module_of(device: torch.device) -> Any:
    """torch's module of a kind of device (`torch.cuda`, …); the CPU's where it has none."""
    return torch.get_device_module(device.type if hasattr(torch, device.type) else "cpu")


def choose_device(wanted: str, local: int = 0, or_auto: bool = False) -> torch.device:
    """A device that is here, with its number unless it is the CPU.

    Args:
        wanted: ``auto`` (CUDA where there is one), ``cpu``, or a device with or without its number.
        local: the number where `wanted` has none: of this process among those of this machine.
        or_auto: where it is not here, what ``auto`` gives is used. Who asks for it says so.

    Raises:
        UserError: a device that is not here; says which are.
    """
    there, (kind, _, number) = devices(), wanted.partition(":")
    there += _xla_devices() if kind == "xla" else ()
    if wanted == "auto":
        kind = "cuda" if any(name.startswith("cuda:") for name in there) else "cpu"
    name = f"{kind}:{number or local}" if number or kind in ("cuda", "xpu", "mps", "xla") or f"{kind}:{local}" in there else kind
    if name in there:
        return torch.device(name)
    if or_auto:
        return choose_device("auto", local)
    why = f" (CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r})" if "CUDA_VISIBLE_DEVICES" in os.environ else ""
    several = f"; this is process {local} of this machine (LOCAL_RANK): start as many as it has devices" if local and not number else ""
    raise UserError(f"device {wanted!r}: there is no {name} here{why}; there are: auto, {', '.join(there)}{several}")


def choose_precision(wanted: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for fp32. bf16 autocast is many times slower than fp32 on CPUs without bf16 units."""
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.bfloat16 if wanted == "bf16" else None


def precision_of(model: Model) -> str:
    """What a model computes in on its device: ``bf16``, ``tf32`` or ``fp32``."""
    if model.autocast is not None:
        return "bf16"
    return "tf32" if model.tf32 and model.device.type == "cuda" else "fp32"


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """How this process computes with float32: the one place that says so, for training, measuring and using a model.

    Within, products of matrices, convolutions and recurrent layers are IEEE's, or with `tf32` TF32's on devices that have it, and subnormal numbers
    are zero. Afterwards this and the number of threads are as before: the process may be somebody's notebook.
    """
    backends = cast(Any, torch.backends)  # whose types are not told
    cudnn, cpu = backends.cudnn, backends.mkldnn
    kinds = (backends.cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    before, threads, smallest = [kind.fp32_precision for kind in kinds], torch.get_num_threads(), sys.float_info.min
    flushed = smallest / 2 == 0
    # Saturated softmaxes fill gradients and moments with subnormal numbers, on which CPUs are many times slower; threads inherit
    # the setting when they are made, so it comes before the first operation that makes them.
    torch.set_flush_denormal(True)
    # The older settings have to agree: who reads them, torch.compile for one, is refused where they do not.
    older = []
    for read, write, value in (
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "high" if tf32 else "highest"),
        (torch._C._get_cudnn_allow_tf32, torch._C._set_cudnn_allow_tf32, tf32),
    ):
        with suppress(RuntimeError):
            older.append(partial(cast(Any, write), read()))
        cast(Any, write)(value)
    for kind in kinds:
        kind.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for restore in older:
            restore()
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(threads)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(model: Model, compute: Compute, local: int = 0, recorded: bool = False) -> torch.device:
    """Moves the model to its device, sets threads and precision.

    Args:
        local: this process among those of this machine.
        recorded: another machine's run goes on here: its device is a wish.
    """
    device = choose_device(compute.device, local, or_auto=recorded)
    _set_threads(compute.threads)
    if device.type not in ("cpu", "xla"):
        torch.accelerator.set_device_index(device.index)
        getattr(module_of(device), "reset_peak_memory_stats", lambda _: None)(device)
    model.to(device)
    model.autocast, model.tf32 = choose_precision(compute.precision, device), compute.precision == "tf32"
    return device


def _set_threads(wanted: int) -> None:
    """The recipe's number of threads, else that of OMP_NUM_THREADS, which torch has read, else one a core."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    number = said.partition(",")[0].strip()
    valid = number.isdecimal() and int(number) > 0
    if said and not valid:
        warnings.warn(Notice(f"OMP_NUM_THREADS={said!r} is no number of threads; {wanted or available_cores()} are used"), stacklevel=2)
    elif wanted and said and int(number) != wanted:
        warnings.warn(Notice(f"compute.threads = {wanted} is used, not OMP_NUM_THREADS={said}"), stacklevel=2)
    if wanted or not valid:
        torch.set_num_threads(wanted or available_cores())


def peak_memory(device: torch.device) -> tuple[int | None, str]:
    """The most bytes that this process has held so far, and of what: allocated on a GPU, resident of the process elsewhere; None where unknown."""
    if (most := getattr(module_of(device), "max_memory_allocated", None)) is not None:
        return most(device), "device (allocated)"
    # Not ru_maxrss where there is better: on Linux a process starts with that of the one it was started by.
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE) if status.exists() else None
    peak = int(found[1]) * 1024 if found else None
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak, "process (resident)"
