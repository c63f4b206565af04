"""What a watch saw of a study's arms (docs/how-to/gan.md), for its page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import markup
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Plan
from ibllm_watch.symptoms import SYMPTOMS, afterwards


def table(plan: Plan, directory: StudyDirectory) -> str:
    """An arm a row: its runs, the rows of figures that were looked at, and in how many runs each symptom was seen; empty where no arm has a critic."""
    rows, critics = [], False
    for arm in plan.arms:
        seen, runs, looked, back = Counter[str](), 0, 0, 0
        for cell in (cell for cell in plan.cells if cell.arm.name == arm.name):
            outcome = directory.outcome(cell)
            if outcome.info.get("status") != "done":
                continue
            runs, critics = runs + 1, critics or bool(cell.recipe.critics())
            count, alarms = _alarms(outcome.info, directory.run(cell).path / "metrics.jsonl")
            looked += count
            back += sum(alarm.get("action") == "rolled back" for alarm in alarms)
            seen.update({str(alarm["symptom"]) for alarm in alarms})
        said = "; ".join(f"{SYMPTOMS[name].title}: {times} of {runs} runs" for name, times in seen.most_common())
        rows.append((arm.name, str(runs), str(looked), said or "nothing", str(back)))
    header = ("arm", "runs", "rows of figures", "seen", "times that it went back")
    return markup.table(header, [tuple(map(markup.plain, row)) for row in rows]) if critics else ""


def _alarms(info: dict[str, Any], metrics: Path) -> tuple[int, list[dict[str, Any]]]:
    """Rows looked at, and alarms; of a run that was not watched what would have been seen, from the rows that it wrote."""
    if "watch" in info:
        return sum(info["watch"]["rows"].values()), info["watch"]["alarms"]
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    rows = [row for row in map(json.loads, lines) if row.get("kind") == "train"]
    return len(rows), [{"symptom": alarm.symptom} for alarm in afterwards(rows)]
