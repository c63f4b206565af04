"""A sentence that says what to change. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from .figures import Operation, Row, percent

#: Part of the time from which waiting for data is worth a word.
WAITS = 0.03
#: Part of the time from which a device counts as busy.
BUSY = 0.7
#: Seconds below which an operation on a CPU is mostly the way to it.
SHORT = 2e-5
#: Words in the names of operations and kernels → what they do, the first that is found.
_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention", ("attention", "flash", "fmha")),
    ("convolutions", ("conv", "dgrad", "wgrad")),
    ("recurrent layers", ("lstm", "rnn", "gru")),
    ("matrix products", ("mm", "gemm", "linear", "matmul")),
    ("the optimizer", ("adam", "sgd", "lerp")),
    ("normalisation", ("norm",)),
    ("resampling", ("upsample", "interpolate", "grid_sampler", "pool")),
    ("copies", ("copy", "memcpy", "cat", "clone", "memset", "fill", "zero")),
)


@attrs.frozen
class Setting:
    """What the sentence depends on beside the figures.

    Attributes:
        card: the device is no CPU.
        cores: of the machine.
        threads: of the process.
        workers: processes that make the data; 0 for a thread of this one.
        precision: ``bf16``, ``tf32`` or ``fp32``.
        compute: the recipe's ``[compute]`` table; what a key it lacks could do is not recommended.
        replayed: iterations are captured and replayed.
    """

    card: bool
    cores: int
    threads: int
    workers: int
    precision: str
    compute: Mapping[str, object]
    replayed: bool | None = None


def advice(row: Row, setting: Setting) -> str:
    """What holds the stage up, and what would help."""
    if not setting.card and row.host_busy < BUSY * (1 - row.waiting):
        why = "other work takes it" if setting.threads == 1 else "other work takes it, or threads wait for each other (compute.threads = 1)"
        return f"The training thread has a core {percent(row.host_busy)} of the time: {why}; measure again on an idle machine."
    if row.waiting > WAITS:
        return _feed(row, setting)
    if row.device_busy is not None and row.device_busy < BUSY:
        return _host(row, setting)
    first = _first(row.operations)
    if setting.card:
        state = (
            f"The card computes {percent(row.device_busy)} of the time" if row.device_busy is not None else "The profiler saw no kernels"
        )
        return f"{state}; the first thing is {first}{_faster(row, setting)}."
    if row.kernels and row.step / row.kernels < SHORT:
        each = f"{row.kernels:,.0f} operations of {1e6 * row.step / row.kernels:.0f} µs each"
        return f"{each}: Python and torch take much of that; a larger batch costs less an item. The first thing is {first}."
    return f"The CPU computes; the first thing is {first}."


def _feed(row: Row, setting: Setting) -> str:
    what = f"The {'card' if setting.card else 'training'} waits for data {percent(row.waiting)} of the time"
    # What is made while a step takes its time is made by so many hands; without waiting the step takes the rest of it. A worker does a thread's work.
    wanted = math.ceil(max(1, setting.workers) / max(1e-3, 1 - row.waiting) - 1e-6)
    if wanted > setting.cores:
        return (
            f"{what}: {wanted} workers would be needed, and there are {setting.cores} cores; items that take less time to make would help."
        )
    return f"{what}: compute.workers = {wanted} would do."


def _host(row: Row, setting: Setting) -> str:
    assert row.device_busy is not None
    what = f"The host is the bottleneck: the card computes {percent(row.device_busy)} of the time"
    larger = "a larger batch (training.batch) gives the card more to do at once"
    if row.synchronisations is not None and row.synchronisations >= 1:
        return (
            f"{what}, and the host waits for it {row.synchronisations:.0f} times a step, wherever a part or a loss reads a value from it."
        )
    if setting.replayed:
        return f"{what}, though iterations are replayed: {larger}."
    if "graphs" in setting.compute:
        how = 'compute.graphs = "auto"' if setting.compute["graphs"] is False else "CUDA graphs (a notice says why these are not captured)"
        return f"{what}, for which Python issues {row.kernels:,.0f} kernels a step; {how} would start them as a whole."
    return f"{what}, for which Python issues {row.kernels:,.0f} kernels a step; {larger}."


def _faster(row: Row, setting: Setting) -> str:
    if setting.precision == "fp32":
        return '; compute.precision = "bf16" (or "tf32") computes matrix products and convolutions several times faster'
    heads = {family(operation.name) for operation in row.operations[:3]}
    if setting.compute.get("compile") is False and heads - {"attention", "convolutions", "matrix products"}:
        return "; compute.compile joins operations that read and write memory for little arithmetic"
    return ""


def _first(operations: Sequence[Operation]) -> str:
    """``convolutions (41 % of the time of all operations)``."""
    shares: dict[str, float] = {}
    for operation in operations:
        shares[family(operation.name)] = shares.get(family(operation.name), 0.0) + operation.share
    if not shares:
        return "not known"
    name = max(shares, key=lambda one: shares[one])
    return f"{name} ({percent(shares[name])} of the time of all operations)"


def family(name: str) -> str:
    """What an operation does; its own name where that is not known."""
    lower = name.lower()
    return next((what for what, words in _FAMILIES if any(word in lower for word in words)), name)
