"""The arms of a comparison, each in a process of its own, timed in turn. Torch-free to import but for figures."""

from __future__ import annotations

import json
import math
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np


@attrs.frozen
class Arm:
    """A form of a model.

    Attributes:
        name: ``eager``, ``compiled``, ``bf16``, ``int8``, ``onnx``, ``onnx-int8``, or with ``distilled`` before it.
        run: the run.
        folder: of exported graphs, where these are run.
        reason: why there is nothing to run.
    """

    name: str
    run: Path
    folder: Path | None = None
    reason: str = ""


@attrs.define
class Row:
    """What an arm costs; what is None was not measured.

    Attributes:
        draw, caption: milliseconds an item at batch 1, ``p50`` and ``p99`` over all items, and items a second at batch 1 (``a_second``) and in batches
            (``a_second_batched``), medians of the rounds.
        memory: greatest resident memory of a process that does nothing else, in bytes.
        size: of its weights in bytes.
        figures: the run's own.
        notes: what is to be said of it: why there is none, what its time did not suffice for, or that it is no faster than eager in this very comparison.
    """

    name: str
    draw: dict[str, float] | None = None
    caption: dict[str, float] | None = None
    memory: int | None = None
    size: int | None = None
    figures: dict[str, float] = attrs.field(factory=dict)
    change: dict[str, float] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)


@attrs.frozen
class Plan:
    """What is timed.

    Attributes:
        texts, images: real items; images (b h w c) as nested lists.
        calls: of one item, each arm in each round.
        rounds: in each of which every arm has its turn.
        batch: of the throughput.
        threads: of an arm.
        budget: seconds of an arm: for its start with the first calls, for its turns together, and for its figures.
    """

    texts: Sequence[str]
    images: Sequence[Any]
    calls: int
    rounds: int
    batch: int
    threads: int
    budget: float

    @property
    def within(self) -> float:
        """Seconds of one measurement, of which a turn has four: drawing and captioning, one by one and in batches."""
        return self.budget / (4 * self.rounds)


class Process:
    """An arm's process.

    Args:
        budget: seconds that it may think about an answer. One that takes longer is killed.
    """

    def __init__(self, threads: int, budget: float) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "ibllm_export.worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        self.budget = budget

    def start(self, arm: Arm, plan: Plan) -> None:
        """Makes it the arm, with its first calls, which compile and fill caches. Raises `Failed`."""
        folder = {} if arm.folder is None else {"folder": str(arm.folder)}
        kind = arm.name.removeprefix("distilled").lstrip("-") or "eager"
        end = time.monotonic() + self.budget
        self.ask({"arm": kind, "run": str(arm.run), "threads": plan.threads, **folder}, end)
        for do, given in (("draw", plan.texts), ("caption", plan.images)):
            for batch, calls in ((1, 5), (plan.batch, 2)):
                self.ask({"do": do, "items": given, "batch": batch, "times": calls, "within": plan.within}, end)

    def ask(self, order: Mapping[str, Any], end: float = math.inf) -> dict[str, Any]:
        """The answer to an order, by `end` (of `time.monotonic`) and within the budget. Raises `Failed` with the arm's reason."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], max(0.0, min(self.budget, end - time.monotonic())))[0]:
                self._process.kill()
                raise Failed(f"{order.get('do', 'opening it')} did not fit into its {self.budget:g} seconds (--budget)")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Failed(Exception):
    """An arm cannot do what it was asked for."""


def compare(arms: Sequence[Arm], plan: Plan, split: str, items: int, say: Callable[[str], None]) -> list[Row]:
    """Times arms in turn, round by round, so that what else the machine does meets all of them alike.

    Args:
        split, items: on which figures of torch's arms are measured; 0 for none.
    """
    rows = {arm.name: Row(arm.name, notes=[arm.reason] if arm.reason else []) for arm in arms}
    timed = {arm.name: Timed() for arm in arms}
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for arm in arms:
            if arm.reason:
                continue
            say(f"starting {arm.name}")
            process = Process(plan.threads, plan.budget)
            stack.callback(process.close)
            with _noted(rows[arm.name]):
                process.start(arm, plan)
                running[arm.name] = process
        for number in range(plan.rounds):
            names = list(running)
            turn = number % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                say(f"round {number + 1} of {plan.rounds}: {name}")
                with _noted(rows[name], running):
                    timed[name].turn(running[name], plan)
        for arm in arms:
            if arm.name in running:
                with _noted(rows[arm.name]):
                    about = running[arm.name].ask({"do": "about"})
                    rows[arm.name].memory, rows[arm.name].size = about["memory"], about["size"]
                    if items and arm.folder is None:
                        say(f"figures of {arm.name}")
                        rows[arm.name].figures = running[arm.name].ask({"do": "figures", "split": split, "items": items})["figures"]
    for name, row in rows.items():
        timed[name].into(row, plan)
    return list(rows.values())


@attrs.define
class Timed:
    """An arm's times: what it did → seconds of its calls of one item, a list a round; and items a second in batches."""

    one: dict[str, list[list[float]]] = attrs.field(factory=dict)
    batched: dict[str, list[float]] = attrs.field(factory=dict)

    def turn(self, process: Process, plan: Plan) -> None:
        """One round's turn. Raises `Failed`."""
        for do, given in (("draw", plan.texts), ("caption", plan.images)):
            order = {"do": do, "items": given, "within": plan.within}
            one = process.ask({**order, "batch": 1, "times": plan.calls})["seconds"]
            many = process.ask({**order, "batch": plan.batch, "times": 2})["seconds"]
            self.one.setdefault(do, []).append(one)
            self.batched.setdefault(do, []).append(plan.batch / min(many))

    def into(self, row: Row, plan: Plan) -> None:
        """Sums the times up in the arm's row, with a note where there are fewer than planned."""
        for do, rounds in self.one.items():
            made, planned = sum(map(len, rounds)), plan.calls * plan.rounds
            if made < planned:
                row.notes.append(f"{do}: {made} of {planned} calls fitted into its time (--budget {plan.budget:g})")
            setattr(row, do, _summed(rounds, self.batched[do]))


def _summed(rounds: list[list[float]], batched: list[float]) -> dict[str, float]:
    every = np.concatenate(rounds) * 1e3
    return {
        "p50": float(np.percentile(every, 50)),
        "p99": float(np.percentile(every, 99)),
        "a_second": statistics.median(len(one) / sum(one) for one in rounds),
        "a_second_batched": statistics.median(batched),
    }


@contextmanager
def _noted(row: Row, running: dict[str, Process] | None = None) -> Iterator[None]:
    """What fails is a note of the row, and the arm is no longer among those running."""
    try:
        yield
    except Failed as failure:
        row.notes.append(str(failure))
        if running is not None:
            del running[row.name]


def judged(rows: Sequence[Row]) -> None:
    """Says of every arm that is no faster than eager that it is not, and what its figures are beside eager's."""
    base = next((row for row in rows if row.name == "eager"), None)
    for row in rows:
        if base is None or row is base:
            continue
        row.change = {name: row.figures[name] - value for name, value in base.figures.items() if name in row.figures}
        for what, own, other in (("drawing", row.draw, base.draw), ("captioning", row.caption, base.caption)):
            if own is not None and other is not None and own["a_second"] <= other["a_second"]:
                row.notes.append(f"no faster than eager here: {what}")
