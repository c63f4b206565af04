"""The arms of a comparison, each in a process of its own, timed in turn. Torch-free to import but for figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
        notes: what is to be said of it: why there is none, or that it is no faster than eager in this very comparison.
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
    """

    texts: Sequence[str]
    images: Sequence[Any]
    calls: int
    rounds: int
    batch: int
    threads: int


class Process:
    """An arm's process."""

    def __init__(self, arm: Arm, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "ibllm_export.worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        folder = {} if arm.folder is None else {"folder": str(arm.folder)}
        kind = arm.name.removeprefix("distilled").lstrip("-") or "eager"
        self.ask({"arm": kind, "run": str(arm.run), "threads": threads, **folder})

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises `Failed` with the arm's reason."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
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
    orders = {"draw": plan.texts, "caption": plan.images}
    times: dict[tuple[str, str], list[list[float]]] = {}
    batched: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for arm in arms:
            say(f"starting {arm.name}")
            with _noted(rows[arm.name]):
                if not arm.reason:
                    running[arm.name] = process = Process(arm, plan.threads)
                    stack.callback(process.close)
                    for do, given in orders.items():  # the first calls compile, and fill caches
                        process.ask({"do": do, "items": given, "batch": 1, "times": 5})
                        process.ask({"do": do, "items": given, "batch": plan.batch, "times": 2})
        for number in range(plan.rounds):
            names = [arm.name for arm in arms if arm.name in running and not rows[arm.name].notes]
            for name in names[number % len(names) :] + names[: number % len(names)] if names else []:
                say(f"round {number + 1} of {plan.rounds}: {name}")
                for do, given in orders.items():
                    one = running[name].ask({"do": do, "items": given, "batch": 1, "times": plan.calls})["seconds"]
                    many = running[name].ask({"do": do, "items": given, "batch": plan.batch, "times": 2})["seconds"]
                    times.setdefault((name, do), []).append(one)
                    batched.setdefault((name, do), []).append(plan.batch / min(many))
        for arm in arms:
            if arm.name in running and not rows[arm.name].notes:
                about = running[arm.name].ask({"do": "about"})
                rows[arm.name].memory, rows[arm.name].size = about["memory"], about["size"]
                if items and arm.folder is None:
                    say(f"figures of {arm.name}")
                    with _noted(rows[arm.name]):
                        rows[arm.name].figures = running[arm.name].ask({"do": "figures", "split": split, "items": items})["figures"]
    for (name, do), rounds in times.items():
        setattr(rows[name], do, _summed(rounds, batched[name, do]))
    return list(rows.values())


def _summed(rounds: list[list[float]], batched: list[float]) -> dict[str, float]:
    every = np.array(rounds).ravel() * 1e3
    return {
        "p50": float(np.percentile(every, 50)),
        "p99": float(np.percentile(every, 99)),
        "a_second": statistics.median(len(one) / sum(one) for one in rounds),
        "a_second_batched": statistics.median(batched),
    }


@contextmanager
def _noted(row: Row) -> Iterator[None]:
    try:
        yield
    except Failed as failure:
        row.notes.append(str(failure))


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
