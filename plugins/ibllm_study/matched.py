"""Arms at equal compute: their learning curves, read at the FLOPs and at the seconds that all of them have spent. Torch-free."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm_report.results import is_number, split_of

from .findings import Findings, FoundRun
from .statistics import Summary, summarise

#: What is held equal → how it is called.
COSTS = {"flops": "training FLOPs", "seconds": "seconds of training"}


@attrs.frozen(kw_only=True)
class Matched:
    """A primary figure's validation, at equal cost.

    Attributes:
        figure: the name of the figure, on the split that trainings validate on.
        cost: ``flops`` or ``seconds``.
        budget: the most that every run has spent by its last validation.
        arms: arm → its runs' values there, between validations by linear interpolation.
        ends: arm → the same at each run's own last validation.
    """

    figure: str
    cost: str
    budget: float
    arms: Mapping[str, Summary]
    ends: Mapping[str, Summary]
    higher_is_better: bool

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Pairs of arms (a, b): a is better at equal cost, and b at the ends of their trainings."""
        sign = 1 if self.higher_is_better else -1

        def mean(of: Mapping[str, Summary], arm: str) -> float:
            return sign * (of[arm].mean or 0.0)

        pairs = itertools.permutations(self.arms, 2)
        return [(a, b) for a, b in pairs if mean(self.arms, a) > mean(self.arms, b) and mean(self.ends, a) < mean(self.ends, b)]


def matched(findings: Findings, figure: str) -> list[Matched]:
    """A primary figure at equal FLOPs and at equal seconds, as far as runs say; for fewer than two arms with learning curves, nothing."""
    curves = {arm.name: [found for run in arm.done if (found := _curve(run, split_of(figure)[1]))] for arm in findings.arms}
    out = []
    for cost in COSTS:
        known = {name: [points for own in runs if (points := _points(own, cost))] for name, runs in curves.items()}
        known = {name: runs for name, runs in known.items() if runs}
        if len(known) < 2:
            continue
        budget = min(points[-1][0] for runs in known.values() for points in runs)
        read = {name: summarise([_at(points, budget) for points in runs], findings.confidence) for name, runs in known.items()}
        ends = {name: summarise([points[-1][1] for points in runs], findings.confidence) for name, runs in known.items()}
        read = {name: found for name, found in read.items() if found.mean is not None}
        if len(read) > 1:
            better = findings.direction(figure) == "max"
            name = split_of(figure)[1]
            out.append(
                Matched(figure=name, cost=cost, budget=budget, arms=read, ends={arm: ends[arm] for arm in read}, higher_is_better=better)
            )
    return out


def _points(curve: Sequence[Mapping[str, float]], cost: str) -> list[tuple[float, float]]:
    """(cost, value), rising; none where the cost is not known."""
    return sorted((point[cost], point["value"]) for point in curve if cost in point)


def _at(points: Sequence[tuple[float, float]], budget: float) -> float | None:
    """The value at a cost; None before the first validation."""
    if budget < points[0][0]:
        return None
    for (before, low), (after, high) in itertools.pairwise(points):
        if before <= budget <= after:
            return low if after == before else low + (high - low) * (budget - before) / (after - before)
    return points[-1][1]


def _curve(run: FoundRun, figure: str) -> list[dict[str, float]]:
    """The figure at each validation, with what had been spent by then."""
    stages = _stages(run)
    out = []
    for row in _validations(run.path):
        stage, value = stages.get(str(row.get("stage"))), _number(row.get(figure))
        if stage is None or value is None:
            continue
        share = min(1.0, (float(row["step"]) - stage["start"]) / stage["steps"])
        spent = {cost: stage[f"{cost}_before"] + share * stage[cost] for cost in COSTS if cost in stage}
        out.append({"value": value, **spent})
    return out


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and is_number(value) else None


def _stages(run: FoundRun) -> dict[str, dict[str, float]]:
    """Stage → its first step, its steps, what it cost and what those before it did; a cost is left out where the run does not say it."""
    listed = [
        entry for entry in run.info.get("stages") or () if isinstance(entry, Mapping) and is_number(entry.get("done")) and entry["done"] > 0
    ]
    seconds = {str(entry["name"]): _number((run.info.get("timings") or {}).get(entry["name"])) for entry in listed}
    costs: dict[str, dict[str, float]] = {"flops": _flops(run, listed)}
    costs["seconds"] = {name: value for name, value in seconds.items() if value is not None}
    found: dict[str, dict[str, float]] = {}
    start, before = 0.0, dict.fromkeys(COSTS, 0.0)
    for entry in listed:
        name, steps = str(entry["name"]), float(entry["done"])
        found[name] = {"start": start, "steps": steps}
        start += steps
        for cost, known in costs.items():
            if len(known) == len(listed):
                found[name] |= {cost: known[name], f"{cost}_before": before[cost]}
                before[cost] += known[name]
    return found


def _flops(run: FoundRun, stages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Stage → training FLOPs: the run's, divided as those of an item times the items of a stage."""
    items, whole = run.info.get("item_flops"), _number(run.info.get("training_flops"))
    if not isinstance(items, Mapping) or whole is None or not all(is_number(items.get(entry["name"])) for entry in stages):
        return {}
    batches = _batches(run.path)
    shares = {str(entry["name"]): float(items[entry["name"]] * batches.get(entry["name"], batches[""]) * entry["done"]) for entry in stages}
    total = math.fsum(shares.values())
    return {name: whole * share / total for name, share in shares.items()} if total else {}


def _batches(path: Path) -> dict[str, int]:
    """Stage → items of a batch; under the empty name, the recipe's own. Equal ones where the recipe does not say."""
    try:
        recipe = tomllib.loads((path / "recipe.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"": 1}
    own = {name: stage["batch"] for name, stage in recipe.get("stages", {}).items() if isinstance(stage, dict) and "batch" in stage}
    return {"": recipe.get("training", {}).get("batch", 1), **own}


def _validations(path: Path) -> list[dict[str, Any]]:
    """The validations of ``metrics.jsonl``; those of a step that came again after a restart once, the last."""
    found: dict[tuple[str, float], dict[str, Any]] = {}
    try:
        with (path / "metrics.jsonl").open(encoding="utf-8") as file:
            for line in file:
                if '"validation"' not in line:
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and row.get("kind") == "validation" and is_number(row.get("step")):
                    found[str(row.get("stage")), row["step"]] = {**found.get((str(row.get("stage")), row["step"]), {}), **row}
    except OSError:
        return []
    return list(found.values())
