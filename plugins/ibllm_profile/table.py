"""A profile for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ibllm_cli.terminal import shown

from .figures import Profile, Row, StageFigures, percent

#: What stands where there is nothing to say.
_NONE = "—"
#: Operations that are shown of each stage.
_SHOWN = 3


def rendered(profile: Profile) -> Group:
    """What is shown: whose figures they are, a table with a row a stage (and a kind of iteration), operations, what to change, what is not measured."""
    card = profile.kind != "cpu"
    cores = f"{profile.cores} core{'s' * (profile.cores > 1)}, {profile.threads} thread{'s' * (profile.threads > 1)}, " if not card else ""
    machine = f"{profile.device}, {cores}{profile.precision}, torch {profile.torch}"
    parts: list[RenderableType] = [Text.assemble((shown(profile.recipe), "bold"), f"  {shown(machine)}"), Text(), _table(profile), Text()]
    for stage in profile.stages:
        first = ", ".join(f"{one.name} {percent(one.share)}" for one in stage.whole.operations[:_SHOWN])
        said = Group(Text(shown(stage.advice)), Text(f"most expensive: {shown(first)}", style="dim"))
        parts += [Text(shown(stage.whole.name), style="bold"), Padding(said, (0, 0, 0, 2))]
    parts += [Text(), *(Text(shown(note), style="dim") for note in _notes(profile))]
    parts += [Text(f"told: {shown(notice)}", style="yellow") for notice in profile.notices]
    return Group(*parts)


def _table(profile: Profile) -> Table:
    card = profile.kind != "cpu"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("\nstage", overflow="fold")
    heads = (
        "step\nms",
        "device\nbusy",
        "host\nbusy",
        "data\nwait",
        "kernels\na step",
        "syncs\na step",
        "\nMFU",
        "\nitems/s",
        "memory\nGiB",
    )
    columns = [_cells(stage, row) for stage in profile.stages for row in (stage.whole, *stage.kinds)]
    kept = [number for number in range(len(heads)) if any(cells[number] for cells in columns)]
    for number in kept:
        head = heads[number] if card else heads[number].replace("kernels", "oper.")
        table.add_column(head, justify="right", no_wrap=True)
    for stage in profile.stages:
        for row in (stage.whole, *stage.kinds):
            name = f"  {row.name} ({Fraction(row.share).limit_denominator(64)})" if row is not stage.whole else row.name
            style = "bold" if row is stage.whole else "dim"
            cells = _cells(stage, row)
            table.add_row(
                Text(shown(name), style=style),
                *(cells[number] or (_NONE if row is stage.whole else "") for number in kept),
                style="" if row is stage.whole else "dim",
            )
    return table


def _cells(stage: StageFigures, row: Row) -> list[str]:
    """A row of the table; empty where there is nothing to say."""
    cells = [
        f"{row.step * 1000:,.1f}",
        "" if row.device_busy is None else percent(row.device_busy),
        percent(row.host_busy),
        percent(row.waiting),
        f"{row.kernels:,.0f}" if row.kernels else "",
        "" if row.synchronisations is None else f"{row.synchronisations:.0f}",
    ]
    if row is not stage.whole:
        return [*cells, "", "", ""]
    mfu = "" if stage.utilisation is None else percent(stage.utilisation)
    return [*cells, mfu, f"{stage.items:,.0f}", "" if stage.memory is None else f"{stage.memory / 2**30:.2f}"]


def _notes(profile: Profile) -> Iterator[str]:
    """What the figures are, and what is missing."""
    yield f"Medians of {profile.steps} iterations a stage after some to warm up; of a rare kind there are fewer. Nothing was kept of what was trained."
    if profile.kind == "cpu":
        yield "On a CPU there is no device to be busy or to wait for: neither is measured. Memory is the whole process's, so far."
    elif any(stage.whole.device_busy is None for stage in profile.stages):
        yield "The profiler saw no kernels: how busy the device is, is not measured (its driver may keep counters for administrators)."
    by = f"{profile.workers} worker process{'es' * (profile.workers > 1)}" if profile.workers else "a thread of the training's process"
    yield f"Data are made by {by} (compute.workers)."
    if replayed := [stage.whole.name for stage in profile.stages if stage.replayed]:
        yield f"Captured and replayed (CUDA graphs): {', '.join(replayed)}."
    if profile.peak is not None:
        tera = profile.peak[0] / 1e12
        yield f"MFU: the model's FLOPs (ibllm check; texts at full length) over {tera:g} TFLOPS, the peak in {profile.precision} ({profile.peak[1]})."
    else:
        yield f"No MFU: the peak of {profile.device} in {profile.precision} is not known."
    if uncounted := [stage.whole.name for stage in profile.stages if stage.flops is None]:
        yield f"FLOPs of {', '.join(uncounted)} cannot be counted on the meta device."
