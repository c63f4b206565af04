"""What is found out of a stage. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


def percent(part: float) -> str:
    """0.412 → ``41 %``; what is not nothing does not look like it."""
    return f"{part:.0%}".replace("%", " %") if part >= 0.095 or part == 0 else f"{100 * part:.1f} %"


@attrs.frozen
class Operation:
    """An operation, as torch calls it, and its part of the time of all."""

    name: str
    share: float


@attrs.frozen
class Row:
    """Iterations of one kind, or a whole stage's as they come.

    Attributes:
        name: of the stage, or what is played in iterations of this kind and not in the others.
        share: the part of the stage's iterations that are of this kind.
        step: seconds an iteration takes, the median.
        device_busy: part of that in which the device computes; None on a CPU, or where the profiler saw nothing.
        host_busy: on a device, part of it that Python takes to issue the work; on a CPU, CPU time of the training thread.
        waiting: part of it in which the next batch is waited for.
        kernels: pieces of work that the device is given, copies included; on a CPU, operations.
        synchronisations: times that the host waits for the device; None on a CPU.
        operations: the most expensive ones first.
    """

    name: str
    share: float
    step: float
    device_busy: float | None
    host_busy: float
    waiting: float
    kernels: float
    synchronisations: float | None
    operations: Sequence[Operation]


@attrs.frozen
class StageFigures:
    """A stage.

    Attributes:
        whole: its iterations as they come.
        kinds: those of each kind; empty where all are of one.
        items: a second.
        flops: of the model in one iteration, from the contracts' walk; None where they cannot be counted.
        utilisation: MFU, `flops` a second as a part of the device's peak; None where one of them is not known.
        memory: most bytes held so far: of the device, in this stage; else of the process.
        replayed: True where iterations were captured and replayed; None where nothing captures any.
        advice: what to change.
    """

    whole: Row
    kinds: Sequence[Row]
    items: float
    flops: float | None
    utilisation: float | None
    memory: int | None
    replayed: bool | None
    advice: str = ""


@attrs.frozen
class Profile:
    """A recipe on a device.

    Attributes:
        device: its name; `kind` is torch's word (``cpu``, ``cuda``).
        threads, cores: of the CPU.
        workers: processes that make the data; 0 for a thread.
        precision: ``bf16``, ``tf32`` or ``fp32``.
        peak: operations a second at most, and the source; None where not known.
        steps: iterations of each stage that were timed.
        notices: what the run would have told.
    """

    recipe: str
    device: str
    kind: str
    threads: int
    cores: int
    workers: int
    precision: str
    torch: str
    peak: tuple[float, str] | None
    steps: int
    stages: Sequence[StageFigures]
    notices: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)


def together(name: str, rows: Sequence[Row]) -> Row:
    """A stage's iterations as they come, of its kinds: means by how many there are of each."""
    if len(rows) == 1:
        return attrs.evolve(rows[0], name=name)
    step = sum(row.share * row.step for row in rows)

    def mean(field: str) -> float:
        return sum(row.share * getattr(row, field) for row in rows)

    def part(field: str) -> float:
        return sum(row.share * row.step * getattr(row, field) for row in rows) / step

    shares: dict[str, float] = {}
    for row in rows:
        for operation in row.operations:
            shares[operation.name] = shares.get(operation.name, 0.0) + operation.share * row.share * row.step / step
    operations = [Operation(name, share) for name, share in sorted(shares.items(), key=lambda pair: -pair[1])]
    return Row(
        name=name,
        share=1.0,
        step=step,
        device_busy=None if any(row.device_busy is None for row in rows) else part("device_busy"),
        host_busy=part("host_busy"),
        waiting=part("waiting"),
        kernels=mean("kernels"),
        synchronisations=None if any(row.synchronisations is None for row in rows) else mean("synchronisations"),
        operations=operations,
    )
