"""What a Chrome trace of torch's profiler says of some iterations: its format has been the same for years, its Python objects have not. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

#: The mark around each iteration.
STEP = "ibllm step"
#: Categories of what a device does.
_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}


@attrs.frozen
class Work:
    """Of all iterations in a trace together.

    Attributes:
        kernels: pieces of work that the device was given, copies included.
        busy: seconds in which it did at least one of them.
        synchronisations: calls within an iteration in which the host waited for the device.
        operations: of the CPU, those that are made of no others.
        dearest: operation → its part of the time of all, the most expensive first. Where there is a device, of its time: a kernel counts for the
            operation that started it, and under its own name where none did (it was replayed).
    """

    kernels: int
    busy: float
    synchronisations: int
    operations: int
    dearest: Mapping[str, float]


def read(trace: Mapping[str, Any]) -> Work:
    """Reads a trace with a mark around each iteration (`STEP`)."""
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    device = [event for event in events if event.get("cat") in _DEVICE]
    steps = [_span(event) for event in events if event.get("cat") == "user_annotation" and event["name"] == STEP]
    waits = [_span(event)[0] for event in events if str(event.get("cat")).endswith(("runtime", "driver")) and _waits(event["name"])]
    operations = [event for event in events if event.get("cat") == "cpu_op"]
    alone, leaves = _alone(operations)
    spent: defaultdict[str, float] = defaultdict(float)
    if device:
        started_by = {event["args"].get("External id"): event["name"] for event in operations if "args" in event}
        for event in device:
            spent[short(started_by.get(event.get("args", {}).get("External id")) or event["name"])] += event.get("dur", 0.0)
    else:
        for event, own in zip(operations, alone, strict=True):
            spent[short(event["name"])] += own
    total = sum(spent.values()) or 1.0
    return Work(
        kernels=len(device),
        busy=_covered(map(_span, device)) / 1e6,
        synchronisations=sum(any(begin <= wait <= end for begin, end in steps) for wait in waits),
        operations=leaves,
        dearest={name: time / total for name, time in sorted(spent.items(), key=lambda pair: -pair[1])},
    )


def short(name: str) -> str:
    """An operation without its namespace, a kernel without its template's arguments."""
    if name.startswith("aten::_scaled_dot_product"):
        return "attention_backward" if "backward" in name else "attention"
    plain = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    return plain.partition("<")[0].partition("(")[0].rpartition("::")[2] or name


def merged(traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One trace of several of one process, which share their clock."""
    return {**traces[0], "traceEvents": [event for trace in traces for event in trace["traceEvents"]]}


def _span(event: Mapping[str, Any]) -> tuple[float, float]:
    """(begin, end) in microseconds."""
    return event["ts"], event["ts"] + event.get("dur", 0.0)


def _waits(name: str) -> bool:
    """Whether a call of the runtime lets the host wait for the device."""
    return "Synchronize" in name or name in ("cudaMemcpy", "cudaMemcpy2D", "cudaFree")


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def _alone(events: Sequence[Mapping[str, Any]]) -> tuple[list[float], int]:
    """Each event's time without that of those within it, in the same thread; and how many have none within them."""
    alone, within = [event.get("dur", 0.0) for event in events], [0] * len(events)
    around: list[int] = []
    for number in sorted(range(len(events)), key=lambda one: (events[one]["tid"], events[one]["ts"], -alone[one])):
        begin = events[number]["ts"]
        while around and (events[around[-1]]["tid"] != events[number]["tid"] or begin >= _span(events[around[-1]])[1]):
            around.pop()
        if around:
            alone[around[-1]] -= events[number].get("dur", 0.0)
            within[around[-1]] += 1
        around.append(number)
    return [max(0.0, own) for own in alone], within.count(0)
