"""Figures of runs that were really made: kept as JSON beside the docs, shown as tables, never typed.

``python docs/_ext/measured.py RUN [RUN …]`` takes finished run directories in (runs of one recipe replace what was kept of it) and writes README's
table anew; ``% generated: measured NAME`` shows a recipe's table on a page.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibllm_core.report.figures import KNOWN

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- /figures -->)", re.DOTALL)


def take(run: Path) -> dict[str, Any]:
    """What is kept of a run directory."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "done", f"{run} is not finished"
    started, finished = (datetime.datetime.fromisoformat(info[key]) for key in ("created", "finished"))
    return {
        "seed": info["seed"]["init"],
        "seconds": (finished - started).total_seconds(),
        "stages": [{key: stage[key] for key in ("name", "done", "best_step", "seconds", "figures")} for stage in info["stages"]],
        "parameters": sum(part["parameters"] for part in info["parts"]),
        "hardware": info["hardware"],
        "versions": info["versions"],
        "results": json.loads((run / "results.json").read_text(encoding="utf-8")),
    }


def keep(runs: Sequence[Path]) -> None:
    """Writes ``docs/measured/RECIPE.json`` for every recipe among the runs."""
    by_recipe: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        name = json.loads((run / "run.json").read_text(encoding="utf-8"))["name"]
        by_recipe.setdefault(name, []).append(take(run))
    FOLDER.mkdir(exist_ok=True)
    for name, found in by_recipe.items():
        text = json.dumps({"recipe": name, "runs": sorted(found, key=lambda run: run["seed"])}, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def table(name: str, only: str = "") -> str:
    """A recipe's figures as a Markdown table: a row a figure and split (or of the split `only`), a column a seed, the mean last if there are several."""
    runs: list[Mapping[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["runs"]
    keys = [key for key in runs[0]["results"] if not key.endswith("/items") and key.startswith(f"{only}/" if only else "")]
    splits = list(dict.fromkeys(key.split("/")[0] for key in keys))
    splits.sort(key=lambda split: split not in ("novel", "concept", "tone"))
    header = ["split", "figure", *(f"seed {run['seed']}" for run in runs), *(["mean"] if len(runs) > 1 else [])]
    rows = []
    for split in splits:
        for key in (key for key in keys if key.split("/")[0] == split):
            values = [run["results"][key] for run in runs]
            figure = key.split("/")[1]
            meaning = KNOWN.get(figure)
            label = f"{meaning.full_label if meaning else figure} (`{figure}`)"
            shown = [f"{value:.3f}" for value in values]
            rows.append([split, label, *shown, *([f"{sum(values) / len(values):.3f}"] if len(values) > 1 else [])])
    times = [f"{run['seconds'] / 60:.1f}" for run in runs]
    rows.append(["", "minutes", *times, *([f"{sum(run['seconds'] for run in runs) / 60 / len(runs):.1f}"] if len(runs) > 1 else [])])
    first = runs[0]
    items = ", ".join(f"{first['results'][f'{split}/items']:.0f} items of `{split}`" for split in splits)
    machine = f"{first['hardware']['cores']} cores of {first['hardware']['cpu']}, torch {first['versions']['torch']}"
    note = f"{items}; {first['parameters']:,} parameters; {machine}; minutes from the first step to the report."
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join([*lines, "", note])


def readme(text: str) -> str:
    """README's text with its table written anew."""
    return _BLOCK.sub(lambda found: found[1] + table("joint", "novel") + "\n" + found[2], text)


if __name__ == "__main__":
    keep([Path(argument) for argument in sys.argv[1:]])
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
