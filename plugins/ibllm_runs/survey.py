"""The runs below a folder, as far as their files say what became of them."""

from __future__ import annotations

import datetime
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory
from ibllm_report.files import glossary_of, objects, read_object
from ibllm_report.results import is_number, split_of
from ibllm_report.told import told

from .holding import holder

#: A run whose process ended without a word.
KILLED, DAMAGED = "killed", "damaged"
#: Figures of a run that are shown, and bytes of metrics.jsonl that are read for the last of them.
_FIGURES, _TAIL = 3, 1 << 16


@attrs.frozen(kw_only=True)
class Seen:
    """A run.

    Attributes:
        status: as in run.json (``running``, ``interrupted``, ``failed``, ``done``), but ``killed`` where no process is at it any more though it says
            that it is running, and ``damaged`` where run.json cannot be read.
        stage: the one that it is in, or ended in.
        step, steps: iterations done and to be done over all stages; None where that is not known.
        figures: of its results, or else the last that it logged.
        created, changed: when it was begun, and when something was written last (ISO 8601).
        happened: sentences on what a reader should know of how it went.
        holder: the process that trains in it now.
    """

    path: Path
    name: str
    status: str
    stage: str
    step: int | None
    steps: int | None
    figures: Mapping[str, float]
    created: str
    changed: str
    happened: tuple[str, ...]
    holder: Mapping[str, Any] | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return attrs.asdict(self) | {"path": str(self.path), "figures": dict(self.figures), "happened": list(self.happened)}


def runs_below(folder: Path) -> Iterator[Path]:
    """Run directories in a folder, or the folder itself, by name; hidden folders and links to folders are not looked into.

    Raises:
        UserError: there is no such folder, or one of those below cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that your runs are in: ibllm runs FOLDER")

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if "recipe.toml" in files and ("run.json" in files or "checkpoints" in folders):
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def seen(path: Path) -> Seen:
    """What the files of a run directory say of it. What is missing or broken inside is told, and nothing is raised for it."""
    run, happened = RunDirectory(path), []
    try:
        info = run.info()
    except UserError as error:
        info, happened = {"status": DAMAGED}, [error.message]
    at, rows = holder(run), last_rows(run / "metrics.jsonl")
    status = str(info.get("status", "")) or "not begun"
    if status == "running" and at is None:
        status = KILLED
        happened.append("its process ended without a word: it was killed, or the machine went down")
    if status == "failed":
        happened.append(" ".join(str(info.get("error", "")).split()))
    happened += told(info)
    if aside := sorted(found.name for found in run.checkpoints.glob("damaged-*")):
        happened.append(f"set aside: {', '.join(aside)}")
    done = [int(entry["done"]) for entry in objects(info.get("stages")) if is_number(entry.get("done"))]
    last = rows[-1] if rows else {}
    step = int(last["step"]) if is_number(last.get("step")) else sum(done)
    return Seen(
        path=path,
        name=str(info.get("name", path.name)),
        status=status,
        stage="" if status == "done" else str(last.get("stage", "")),
        step=step,
        steps=_steps(run.recipe),
        figures=_figures(run, info, rows, status),
        created=str(info.get("created", "")),
        changed=_changed(run),
        happened=tuple(filter(None, happened)),
        holder=at,
    )


def last_rows(path: Path) -> list[Mapping[str, Any]]:
    """The last whole lines of a metrics file."""
    import json

    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return objects(found)


def _steps(recipe: Path) -> int | None:
    """Iterations of all stages that a resolved recipe plays."""
    try:
        tables = tomllib.loads(recipe.read_text(encoding="utf-8", errors="replace"))
        stages = tables["stages"]
        return sum(int(stages[name]["steps"]) for name in tables.get("order", stages))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _figures(run: RunDirectory, info: Mapping[str, Any], rows: list[Mapping[str, Any]], status: str) -> dict[str, float]:
    """The first figures of the split to look at first; of a run that has none yet, its last validation, or its last losses."""
    glossary = glossary_of(run, info) if info.get("figures") else None
    results = read_object(run.results) if status == "done" else {}
    if results:
        splits = list(dict.fromkeys(split_of(key)[0] for key in results))
        first = glossary.first_split(splits) if glossary else splits[0]
        names = [key for key, value in results.items() if split_of(key)[0] == first and split_of(key)[1] != "items" and is_number(value)]
        names.sort(key=lambda key: glossary.rank(split_of(key)[1]) if glossary else 0)
        return {key: float(results[key]) for key in names[:_FIGURES]}
    validated = [row for row in rows if row.get("kind") == "validation"]
    logged = [row for row in rows if row.get("kind") == "train"]
    own = {"step", "time"}
    if validated:
        found = {f"validation/{name}": value for name, value in validated[-1].items() if name not in own}
    else:
        found = {name: value for name, value in (logged[-1] if logged else {}).items() if name.startswith("loss/")}
    numbers = {name: float(value) for name, value in found.items() if is_number(value)}
    return dict(list(numbers.items())[:_FIGURES])


def _changed(run: RunDirectory) -> str:
    times = []
    for path in (run / "run.json", run / "metrics.jsonl", run.checkpoints, run.results):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC).isoformat(timespec="seconds") if times else ""
