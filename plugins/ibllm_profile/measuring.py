"""A few iterations of each stage, timed as they run in training, and then looked at by torch's profiler."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import torch

from ibllm import capture, passes
from ibllm.contracts import check
from ibllm.iterations import IterationKind, kinds_of
from ibllm.machine import hardware
from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import Batch
from ibllm_core.model.compute import arithmetic, available_cores, module_of, peak_memory, precision_of
from ibllm_core.model.stage import StageTrainer
from ibllm_core.recipe.schema import Recipe, Stage
from ibllm_core.runs.directory import RunDirectory, read_json
from ibllm_core.training.session import Session

from .advice import Setting, advice
from .figures import Operation, Profile, Row, StageFigures, together
from .peaks import peak
from .traces import STEP, merged, read

#: Iterations that the profiler looks at, of each kind.
LOOKED_AT = 3
#: Fewest iterations of a kind that are timed, where so many are asked for at all.
FEWEST = 5
#: Iterations before those that are timed, on a CPU and on a device, where libraries choose kernels and iterations are captured.
WARM_UP = {"cpu": 2, "device": 8}
#: Most further ones until all are replayed: texts of each length are captured for themselves.
CAPTURING = 60
#: Operations that are kept of each kind.
KEPT = 12


def profile_recipe(recipe: Recipe, steps: int, say: Callable[[str], None] = lambda text: None) -> tuple[Profile, dict[str, Any]]:
    """Plays some iterations of each stage of a recipe; nothing is kept of what they train.

    Gives their figures, and the trace (Chrome's format) of those that were profiled.

    Args:
        steps: iterations of each stage that are timed; of a rare kind at least `FEWEST`.
        say: told what is being looked at.

    Raises:
        UserError: the recipe cannot be built, or this is one of several processes.
    """
    with tempfile.TemporaryDirectory(prefix="ibllm-profile-") as folder, arithmetic(recipe.compute.precision == "tf32"):
        flops = {row.stage: row.flops for row in check(recipe).stages}
        session = Session(recipe, RunDirectory(Path(folder) / "run"))
        if session.ranks.count > 1:
            raise UserError("a profile is of one process: start it without torchrun")
        machine, precision = hardware(session.model.device), precision_of(session.model)
        name = machine["device"] if session.model.device.type != "cpu" else machine["cpu"]
        most = peak(name, precision)
        compute = attrs.asdict(recipe.compute) | {"compile": passes.arrange(session)}  # what auto decides
        stages, traces = [], []
        for stage in recipe.running():
            say(f"stage {stage.name}")
            found, of_stage = _stage(session, stage, steps, Path(folder), flops[stage.name], most, compute)
            stages.append(found)
            traces += of_stage
    profile = Profile(
        recipe=recipe.name,
        device=name,
        kind=session.model.device.type,
        threads=torch.get_num_threads(),
        cores=machine["cores"],
        workers=session.workers,
        precision=precision,
        torch=torch.__version__,
        peak=most,
        steps=steps,
        stages=stages,
        notices=session.notices,
    )
    return profile, merged(traces)


def _stage(
    session: Session,
    stage: Stage,
    steps: int,
    folder: Path,
    item_flops: int | None,
    most: tuple[float, str] | None,
    compute: Mapping[str, object],
) -> tuple[StageFigures, list[dict[str, Any]]]:
    device, trainer = session.model.device, session.trainer(stage)
    capture.arrange(session, trainer)
    if reset := getattr(module_of(device), "reset_peak_memory_stats", None):
        reset(device)
    with closing(session.feeder(stage)) as feeder:
        rows, traces = look(trainer, iter(feeder), steps, folder)
    replayed = None if trainer.replays is None else trainer.replays.replayed > 0
    whole = together(stage.name, rows)
    flops = None if item_flops is None else item_flops * stage.training.batch
    setting = Setting(
        device.type != "cpu", available_cores(), torch.get_num_threads(), session.workers, precision_of(session.model), compute, replayed
    )
    figures = StageFigures(
        whole=whole,
        kinds=rows if len(rows) > 1 else (),
        items=stage.training.batch / whole.step,
        flops=flops,
        utilisation=flops / whole.step / most[0] if flops is not None and most is not None else None,
        memory=peak_memory(device)[0],
        replayed=replayed,
        advice=advice(whole, setting),
    )
    return figures, traces


def look(trainer: StageTrainer, batches: Iterator[Sequence[Batch]], steps: int, folder: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """Times and profiles iterations of each kind that a trainer's stage has: a row and a trace of each; `folder` is for files that are written meanwhile."""
    # The profiler's library says on standard error that it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    looker, kinds = _Looker(trainer, batches), kinds_of(trainer)
    count, rows, traces = sum(kind.count for kind in kinds), list[Row](), list[dict[str, Any]]()
    for kind, name in zip(kinds, named(kinds), strict=True):
        share = kind.count / count
        row, trace = looker.look(kind, name, share, min(steps, max(FEWEST, round(steps * share))), folder)
        rows.append(row)
        traces.append(trace)
    return rows, traces


def named(kinds: Sequence[IterationKind]) -> list[str]:
    """What is played in iterations of each kind and not in those of every kind."""
    turns = [[f"{player}: {loss}" if player != "model" else loss for player, losses in kind.turns for loss in losses] for kind in kinds]
    always = set.intersection(*map(set, turns))
    return [", ".join(dict.fromkeys(loss for loss in played if loss not in always)) or "the others" for played in turns]


class _Looker:
    """Plays iterations of a stage as training does, but again and again those of one kind."""

    def __init__(self, trainer: StageTrainer, batches: Iterator[Sequence[Batch]]) -> None:
        self._trainer, self._batches, self._device = trainer, batches, trainer.model.device

    def look(self, kind: IterationKind, name: str, share: float, steps: int, folder: Path) -> tuple[Row, dict[str, Any]]:
        """Times iterations of a kind, and profiles a few."""
        self._warm_up(kind)
        seconds, waited, busy = self._timed(kind, steps)
        step, card = median(seconds), self._device.type != "cpu"
        looked_at = min(LOOKED_AT, steps)
        trace = self._profiled(kind, looked_at, folder)
        work = read(trace)
        row = Row(
            name=name,
            share=share,
            step=step,
            device_busy=min(1.0, work.busy / looked_at / step) if card and work.kernels else None,
            host_busy=min(1.0, self._issuing(kind, looked_at) / step if card else busy),
            waiting=waited,
            kernels=(work.kernels if card else work.operations) / looked_at,
            synchronisations=work.synchronisations / looked_at if card else None,
            operations=[Operation(*pair) for pair in list(work.dearest.items())[:KEPT]],
        )
        return row, trace

    def _play(self, kind: IterationKind) -> float:
        """One iteration; the seconds that its batch was waited for."""
        self._trainer.go_to(kind.step, kind.players)
        begun = time.perf_counter()
        batch = next(self._batches)
        waited = time.perf_counter() - begun
        self._trainer.iterate(batch)
        return waited

    def _warm_up(self, kind: IterationKind) -> None:
        captures = self._trainer.replays
        replayed, further, again = 0, 0, CAPTURING if captures is not None else 0
        for number in range(WARM_UP["cpu" if self._device.type == "cpu" else "device"] + again):
            before = 0 if captures is None else captures.replayed
            self._play(kind)
            replayed = replayed + 1 if captures is not None and captures.replayed > before else 0
            further = number + 1 - WARM_UP["device"]
            if further >= 0 and (replayed >= FEWEST or (captures is not None and not captures.replayed and further > FEWEST)):
                break

    def _timed(self, kind: IterationKind, steps: int) -> tuple[list[float], float, float]:
        """Seconds of each iteration, the part of them in which data were waited for, and the part in which this thread computed."""
        synchronise(self._device)
        marks, waited = _Marks(self._device), 0.0
        begun, computed = time.perf_counter(), time.thread_time()
        marks.add()
        for _ in range(steps):
            waited += self._play(kind)
            marks.add()
        seconds = marks.seconds()
        computed = time.thread_time() - computed
        return seconds, waited / sum(seconds), computed / (time.perf_counter() - begun)

    def _issuing(self, kind: IterationKind, steps: int) -> float:
        """Seconds from the beginning of an iteration, the device idle, until Python has issued all its work."""
        seconds = []
        for _ in range(steps):
            synchronise(self._device)
            begun = time.perf_counter()
            waited = self._play(kind)
            seconds.append(time.perf_counter() - begun - waited)
        return median(seconds)

    def _profiled(self, kind: IterationKind, steps: int, folder: Path) -> dict[str, Any]:
        """The trace of some iterations."""
        from torch.profiler import ProfilerActivity, profile, record_function

        wanted = {"cpu": ProfilerActivity.CPU, "cuda": ProfilerActivity.CUDA, "xpu": ProfilerActivity.XPU}
        activities = [wanted[one] for one in dict.fromkeys(("cpu", self._device.type)) if one in wanted]
        synchronise(self._device)
        with profile(activities=activities) as profiler:
            for _ in range(steps):
                with record_function(STEP):
                    self._play(kind)
            synchronise(self._device)
        path = folder / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace = read_json(path)
        assert trace is not None
        return trace


def synchronise(device: torch.device) -> None:
    """Waits until a device has done what it was given."""
    if device.type == "xla":
        import_module("torch_xla").sync(wait=True)
    elif device.type != "cpu":
        torch.accelerator.synchronize(device)


class _Marks:
    """Moments in the device's own stream of work, so that nothing has to wait for it between iterations."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._events, self._moments = device, list[torch.cuda.Event](), list[float]()

    def add(self) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._events.append(event)
            return
        synchronise(self._device)
        self._moments.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Between the moments, one after the other."""
        if self._events:
            self._events[-1].synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairwise(self._events)]
        return [b - a for a, b in pairwise(self._moments)]
