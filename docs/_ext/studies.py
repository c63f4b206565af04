"""Results of studies that were really run: kept beside the docs as the study's own table, a forest plot and every run's figures.

``python docs/_ext/studies.py STUDY.toml STUDY-DIR`` takes a study's runs in; pages under ``docs/studies/`` include what it writes.
``python docs/_ext/studies.py --again`` analyses the figures of all runs that are kept once more, as ``ibllm compare --csv`` does.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import attrs
import watched
from ibllm_report.plots import Plot
from ibllm_study import tables
from ibllm_study.analysis import Analysis
from ibllm_study.charts import decided, pareto
from ibllm_study.directory import StudyDirectory
from ibllm_study.findings import from_plan
from ibllm_study.foreign import from_csv
from ibllm_study.interactions import interactions
from ibllm_study.plan import make_plan
from ibllm_study.study_file import read_study
from ibllm_study.sweeps import sweeps

#: Middle tones that are told apart on a light and on a dark page.
COLOURS = ("#3b7ddd", "#d9711c", "#2f9e62", "#b04ec9", "#c9416a", "#8a8f2a", "#2a9aa8", "#7a6ae0")
FOLDER = Path(__file__).resolve().parents[1] / "measured" / "studies"
RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "ablations"
#: The last section of a study's table.
DIFFERS = "## What differs from the base\n"


def take(study: Path, folder: Path, seeds: int | None = None, scale: float | None = None) -> Path:
    """Writes what is kept of a study; gives the folder."""
    plan = make_plan(read_study(study, seeds=seeds, scale=scale))
    found = from_plan(plan, StudyDirectory(folder))
    analysis = Analysis(found)
    target = FOLDER / plan.study.name
    target.mkdir(parents=True, exist_ok=True)
    # The page has its own title; the table's sections go one level down.
    text = re.sub(r"\A# .*\n+", "", tables.markdown(analysis))
    (target / "table.md").write_text(text, encoding="utf-8")
    (target / "runs.csv").write_text(_without_paths(tables.runs_csv(analysis), folder), encoding="utf-8")
    _draw(analysis, target)
    found_curves = [f"<p>{html.escape(sweep.title)}</p>\n" + "".join(map(_inline, sweep.plots)) for sweep in sweeps(analysis)]
    if found_curves:
        (target / "curves.html").write_text("".join(found_curves), encoding="utf-8")
    if crossed := interactions(analysis):
        (target / "interactions.html").write_text("".join(map(_inline, crossed)), encoding="utf-8")
    if seen := watched.table(plan, StudyDirectory(folder)):
        (target / "watched.md").write_text(f"{seen}\n", encoding="utf-8")
    (target / "made.json").write_text(json.dumps(_made(plan, folder), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def again(name: str) -> Path:
    """Writes the table and the plots of a study anew from its kept runs.csv; what its arms differ in stays as its runs said. Gives the folder."""
    target, table = FOLDER / name, read_study(RECIPES / f"{name}.toml").table
    mode = "" if table.mode == "auto" else table.mode
    analysis = Analysis(attrs.evolve(from_csv(target / "runs.csv", table.decides, mode, confidence=table.confidence), name=name))
    before = (target / "table.md").read_text(encoding="utf-8")
    text = re.sub(r"\A# .*\n+", "", tables.markdown(analysis)).rstrip("\n")
    differs = before[before.index(DIFFERS) :] if DIFFERS in before else ""
    (target / "table.md").write_text(f"{text}\n\n{differs}".rstrip("\n") + "\n", encoding="utf-8")
    _draw(analysis, target)
    return target


def _draw(analysis: Analysis, target: Path) -> None:
    forest = decided(analysis, analysis.findings.primary)
    assert forest is not None, "no differences to show yet"
    (target / "forest.html").write_text(_inline(forest), encoding="utf-8")
    for plot in pareto(analysis)[:1]:
        (target / "pareto.html").write_text(_inline(plot), encoding="utf-8")


def _inline(plot: Plot) -> str:
    """The plot as it stands in a page, in the page's own colours."""
    colours = "".join(f"--s{number}: {value};" for number, value in enumerate(COLOURS, 1))
    legend = "  ".join(f'<span style="color: var(--s{number + 1})">{glyph}</span> {label}' for glyph, number, label in plot.legend)
    style = f"{colours} --line: var(--color-background-border); --muted: var(--color-foreground-muted); max-width: 44rem"
    return f'<figure style="{style}">{plot.svg}<figcaption>{legend}</figcaption></figure>\n'


def _made(plan, folder: Path) -> dict[str, object]:  # type: ignore[no-untyped-def]
    directory = StudyDirectory(folder)
    infos = [directory.outcome(cell).info for cell in plan.cells]
    done = [info for info in infos if info.get("status") == "done"]
    return {
        "study": plan.study.name,
        "runs": len(infos),
        "done": len(done),
        "versions": sorted({json.dumps(info["versions"], sort_keys=True) for info in done}),
        "hardware": sorted({f"{info['hardware']['cpu']}, {info['hardware']['threads']} thread" for info in done}),
    }


def _without_paths(text: str, folder: Path) -> str:
    return text.replace(str(folder) + "/", "")


if __name__ == "__main__":
    if sys.argv[1:] == ["--again"]:
        for kept in sorted(FOLDER.glob("*/runs.csv")):
            print(again(kept.parent.name))
    else:
        print(take(Path(sys.argv[1]), Path(sys.argv[2])))
