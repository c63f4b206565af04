"""Figures of runs that were really made: kept as JSON beside the docs, shown as tables, never typed.

``python docs/_ext/measured.py RUN [RUN …]`` takes finished run directories in (runs of one recipe replace what was kept of it) and writes README's
table anew. On a page (`generated`), ``measured NAME`` shows a recipe's table, ``stages NAME`` its shares after each stage, ``families`` one row for
each recipe of ``recipes/families/``.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibllm
from ibllm.glossary import Glossary
from ibllm_core.host.options import DatasetConfig
from ibllm_core.recipe import load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
README = ROOT / "README.md"
#: The recipes that are compared with each other, and the figures shown of them.
FAMILIES = ROOT / "recipes" / "families"
COMPARED = {
    "novel/scene_exact": "drawn",
    "novel/caption_exact": "read",
    "novel/roundtrip_exact": "round trip",
    "test/scene_exact": "drawn (seen pairs)",
    "test/caption_exact": "read (seen pairs)",
}
#: Images drawn at once where drawing is timed, and how often.
DRAWN, REPEATS = 32, 5
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
        "command": re.sub(r"(?<=\s)/\S*/(?=[^/\s]+)", "runs/", info["command"]),  # where it lay on the machine is nobody's business
        "step_seconds": step_seconds(run, info),
        "seconds_per_image": seconds_per_image(run),
        "results": json.loads((run / "results.json").read_text(encoding="utf-8")),
        **({"attacks": attacks(run)} if (run / "attack.json").exists() else {}),
    }


def attacks(run: Path) -> list[dict[str, Any]]:
    """What `ibllm attack` left of a run, without its examples."""
    found = json.loads((run / "attack.json").read_text(encoding="utf-8"))["attacks"]
    kept = ("of", "use", "against", "split", "items", "seed", "options", "levels")
    return [
        {key: one[key] for key in kept} | {"figures": [{k: figure[k] for k in ("name", "label", "values")} for figure in one["figures"]]}
        for one in found
    ]


def step_seconds(run: Path, info: Mapping[str, Any]) -> dict[str, float]:
    """Stage → median seconds an iteration, over the windows between log lines; validations are not in them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = ibllm.open(run).recipe
    found = {}
    for stage in (stage["name"] for stage in info["stages"]):
        speeds = [line["samples_per_second"] for line in lines if line["stage"] == stage and "samples_per_second" in line]
        found[stage] = recipe.stages[stage].training.batch / statistics.median(speeds)
    return found


def seconds_per_image(run: Path) -> float | None:
    """Median seconds to draw one image, `DRAWN` at once, with the run's own number of threads."""
    import torch

    opened = ibllm.open(run)
    if "image_decoder" not in opened.recipe.parts:
        return None
    torch.set_num_threads(int(json.loads((run / "run.json").read_text(encoding="utf-8"))["hardware"]["threads"]))
    texts = opened.dataset.corpus("train", DRAWN)[:DRAWN]
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        opened.model.generate(texts, batch=DRAWN)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / len(texts)


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


def table(name: str, only: str = "", also: str = "") -> str:
    """A recipe's figures as a Markdown table: a row a figure and split, a column a seed, the mean last if there are several.

    Args:
        only: the figures of this split alone.
        also: ``SPLIT/FIGURE``, one more, where it was measured.
    """
    runs: list[Mapping[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["runs"]
    keys = [key for key in runs[0]["results"] if not key.endswith("/items") and (key.startswith(f"{only}/" if only else "") or key == also)]
    splits = list(dict.fromkeys(key.split("/")[0] for key in keys))
    recipe = load(next((ROOT / "recipes").rglob(f"{name}.toml")), recorded=True)
    data, glossary = recipe.data.config, Glossary.of(recipe)
    splits.sort(key=lambda split: (split != glossary.primary, isinstance(data, DatasetConfig) and split not in data.reported_splits()))
    header = ["split", "figure", *(f"seed {run['seed']}" for run in runs), *(["mean"] if len(runs) > 1 else [])]
    rows = []
    for split in splits:
        for key in (key for key in keys if key.split("/")[0] == split):
            values = [run["results"][key] for run in runs]
            figure = key.partition("/")[2]
            label = f"{glossary.figure(figure).full_label} (`{figure}`)"
            shown = [f"{value:.3f}" for value in values]
            rows.append([split, label, *shown, *([f"{sum(values) / len(values):.3f}"] if len(values) > 1 else [])])
    times = [f"{run['seconds'] / 60:.1f}" for run in runs]
    rows.append(["", "minutes", *times, *([f"{sum(run['seconds'] for run in runs) / 60 / len(runs):.1f}"] if len(runs) > 1 else [])])
    first = runs[0]
    items = ", ".join(f"{first['results'][f'{split}/items']:.0f} items of `{split}`" for split in splits)
    machine = f"{first['hardware']['cores']} cores of {first['hardware']['cpu']}, torch {first['versions']['torch']}"
    note = f"{items}; {first['parameters']:,} parameters; {machine}; minutes from the first step to the report."
    return "\n".join([*_rows([header, *rows]), "", note])


def stages(name: str) -> str:
    """A recipe's shares of right items after each stage, on the split to look at first, as a Markdown table: means over the seeds."""
    runs: list[Mapping[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["runs"]
    recipe = load(next((ROOT / "recipes").rglob(f"{name}.toml")), recorded=True)
    glossary, plan = Glossary.of(recipe), recipe.evaluation
    after = {stage["name"]: [run["stages"][number]["figures"] for run in runs] for number, stage in enumerate(runs[0]["stages"][:-1])}
    after[runs[0]["stages"][-1]["name"]] = [run["results"] for run in runs]
    shares = [figure for figure in glossary.figures.values() if figure.counted and figure.better and not figure.caution]
    rows = [["after the stage", *(figure.label for figure in shares)]]
    for stage, found in after.items():
        values = [[figures[f"{glossary.primary}/{figure.name}"] for figures in found] for figure in shares]
        rows.append([f"`{stage}`", *map(_spread, values)])
    several = "; mean ± standard deviation over the seeds" if len(runs) > 1 else ""
    return "\n".join(
        [*_rows(rows), "", f"{plan.items} items of `{glossary.primary}` at the end, the first {plan.after_stage} of them before{several}."]
    )


def families() -> str:
    """Two Markdown tables with a row for each recipe of ``recipes/families/``: figures over the seeds, and what they cost."""
    figures: list[list[str]] = [["recipe", *COMPARED.values(), "seeds"]]
    costs = [["recipe", "parameters", "milliseconds a step", "milliseconds an image drawn", "minutes"]]
    machines = set()
    for name in sorted(path.stem for path in FAMILIES.glob("*.toml")):
        file = FOLDER / f"{name}.json"
        if not file.exists():
            figures.append([f"`{name}`", *["not measured"] * len(COMPARED), ""])
            continue
        runs: list[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["runs"]
        values = [[run["results"][figure] for run in runs] for figure in COMPARED]
        figures.append([f"`{name}`", *map(_spread, values), ", ".join(str(run["seed"]) for run in runs)])
        # Other work on the machine only ever adds time: the quickest of the seeds is the nearest to the recipe's own.
        steps = {stage: min(run["step_seconds"][stage] for run in runs) for stage in runs[0]["step_seconds"]}
        drawing = min(run["seconds_per_image"] for run in runs)
        minutes = min(run["seconds"] for run in runs) / 60
        stages = ", ".join(f"{stage} {1000 * seconds:.0f}" for stage, seconds in steps.items())
        costs.append([f"`{name}`", f"{runs[0]['parameters']:,}", stages, f"{1000 * drawing:.1f}", f"{minutes:.1f}"])
        for run in runs:
            threads = run["hardware"]["threads"]
            machines.add(f"{threads} thread{'s' * (threads != 1)} of {run['hardware']['cpu']}, torch {run['versions']['torch']}")
    note = f"Mean ± standard deviation over the seeds, of the split `novel` or, for seen pairs, `test`; {'; '.join(sorted(machines))}."
    return "\n".join([*_rows(figures), "", note, "", *_rows(costs)])


def attacked(names: str) -> str:
    """Captions read right with and without an attack, a row a recipe (``A,B``), a column a strength, over the seeds; and what training took."""
    rows: list[list[str]] = []
    said = ""
    for name in names.split(","):
        runs: list[Mapping[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["runs"]
        found = [next(one for one in run["attacks"] if one["of"] == "image") for run in runs]
        values = [next(figure["values"] for figure in one["figures"] if figure["name"] == "caption_exact") for one in found]
        rows = rows or [["recipe", *(f"ε = {level}" for level in found[0]["levels"]), "seeds", "minutes"]]
        shown = [_spread([of_seed[number] for of_seed in values]) for number in range(len(found[0]["levels"]))]
        minutes = min(run["seconds"] for run in runs) / 60
        rows.append([f"`{name}`", *shown, ", ".join(str(run["seed"]) for run in runs), f"{minutes:.1f}"])
        options = ", ".join(f"{key} = {value}" for key, value in found[0]["options"].items())
        said = f"`ibllm attack --use {found[0]['use']}` ({options}) on the first {found[0]['items']} items of `{found[0]['split']}`"
    note = "Share of captions that state every fact, mean ± standard deviation over the seeds; minutes of the quickest seed, on a shared machine."
    return "\n".join([*_rows(rows), "", f"{said}. {note}"])


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]


def readme(text: str) -> str:
    """README's text with its table written anew."""
    return _BLOCK.sub(lambda found: found[1] + table("joint", "novel", also="open/roundtrip_exact") + "\n" + found[2], text)


if __name__ == "__main__":
    keep([Path(argument) for argument in sys.argv[1:]])
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
