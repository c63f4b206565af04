"""What a run records of where it comes from: its components, what their figures mean, and what it depends on that no version says (the source
of packages that are no installed wheels, other runs' weights); and with what of it changed it may go on. Torch-free.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import tomllib
import warnings
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import Notice, UserError
from ..host.entry_points import file_of
from ..host.manager import manager
from ..host.options import DatasetConfig, MetricConfig
from ..recipe.locate import Dependency, dotted
from ..recipe.schema import Recipe
from ..recipe.words import written

#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads", "compute.workers", "compute.activation_checkpointing")  # fmt: skip
#: Folders whose packages are installed: their version says what they are.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+(\w+)|from[ \t]+(\w+)[\w.]*[ \t]+import\b)", re.MULTILINE)


def provenance(recipe: Recipe, whole: bool = False) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, and if `whole` what their options say of what they name, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
    for path, component in recipe.components().items() if whole else ():
        found[path] |= component.config.provenance()
    for name in recipe.plugins.hooks:
        origin = manager(recipe.plugins.block).plugin(name).origin
        found[f"plugins.hooks.{name}"] = {"component": name, "distribution": origin.distribution, "version": origin.version}
    return found


def meanings(recipe: Recipe) -> dict[str, Any]:
    """What the figures, splits and marks of a run mean, as its components say, by name and in the order in which they are shown: for run.json."""
    metrics = [metric.config for metric in recipe.metrics.values() if isinstance(metric.config, MetricConfig)]
    data = recipe.data.config if isinstance(recipe.data.config, DatasetConfig) else None
    figures = {figure.name: attrs.asdict(figure) for config in metrics for figure in config.figures()}
    marks = {mark.name: attrs.asdict(mark) for config in metrics for mark in config.marks()}
    for entry in (*figures.values(), *marks.values()):
        del entry["name"]
    splits, primary = (dict(data.splits()), data.primary_split()) if data else ({}, "")
    return {"figures": figures, "splits": splits, "marks": marks, "primary_split": primary}


def sources(recipe: Recipe, but: Container[str] = ()) -> dict[str, str]:
    """What run.json keeps: import package, or run or file (of data none) that is read, → hash.

    Args:
        but: tables of the recipe, ``losses.cycle``, whose own needs are left out.
    """
    named = [one for one in recipe.dependencies if one.path[0] not in ("data", "unpaired") and ".".join(map(str, one.path[:2])) not in but]
    return code(recipe, but) | {str(one.where): hashed for one in named if (hashed := _contents(one))}


def code(recipe: Recipe, but: Container[str] = ()) -> dict[str, str]:
    """Import package → hash of its ``*.py`` files, tests and documentation left out.

    Of the packages that the core, the recipe's components (but for trackers) and its hooks are in or import, those that are edited where they lie:
    editable installations, folders on the path.
    """
    specs = [c.spec for path, c in recipe.components().items() if c.kind != "tracker" and ".".join(path.split(".")[:2]) not in but]
    left = [__name__, *(path for spec in specs for path in (spec.factory, spec.config))]
    left += [manager(recipe.plugins.block).plugin(name).origin.value for name in recipe.plugins.hooks]
    found: dict[str, str] = {}
    while left:
        name = re.split("[.:]", left.pop())[0]
        if name not in found:
            found[name], imported = _package(name)
            left += imported
    return {name: found[name] for name in sorted(found) if found[name]}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The packages and runs that both name and know otherwise."""
    return [name for name in before if name in now and before[name] != now[name]]


def goes_on(info: Mapping[str, Any], recipe: Recipe, what: str, accept: bool) -> dict[str, Any]:
    """What is to be written into the run.json of a run that begins or goes on, given what it says.

    Raises:
        UserError: the source, or a run that weights are taken from, is another one, and this was not accepted. Runs started from may be gone.
    """
    now, before = sources(recipe), info.get("sources", {})
    starts = {str(one.where) for one in recipe.dependencies if one.path[-2:] == ("init", "run")}
    now |= {name: before[name] for name in starts & before.keys() if now.get(name) == "missing"}
    others = changed(before, now)
    if others and not accept:
        ways = "put it back, or go on with what is here now (--accept-code)"
        raise UserError(f"{what} was started with another state of {', '.join(others)}: {ways}")
    if "provenance" in info and "sources" not in info and now:
        warnings.warn(Notice(f"{what} does not say with which state of {', '.join(now)} it was started"), stacklevel=2)
    accepted = [*info.get("accepted_code", []), {name: before[name] for name in others}]
    return {"sources": now, "accepted_code": accepted} if others else {"sources": now}


def changes(started: str, recipe: Recipe, where: str) -> list[str]:
    """What a run that was started with the recipe text `started`, in the directory `where`, goes on with: ``key = value``, one a change.

    Raises:
        UserError: something that training depends on differs: all but `FREE`, or a metric whose figures decide in a stage.
    """
    plans = [attrs.evolve(stage.validate, metrics=()) for stage in recipe.running() if stage.validate is not None]
    deciding = {name for plan in plans for name in recipe.validated(plan)}
    before, now = _flat(tomllib.loads(started)), _flat(tomllib.loads(recipe.source))
    found, tied = [], []
    for path in (path for path in {**before, **now} if path not in before or path not in now or before[path] != now[path]):
        free = any(path[: name.count(".") + 1] == tuple(name.split(".")) for name in FREE) or path[2:4] == ("validate", "metrics")
        decides = path[0] == "metrics" and path[1] in deciding
        found.append(f"{dotted(path)} = {written(now[path])}" if path in now else f"{dotted(path)} is taken away")
        tied += [found[-1] + " (its figures decide in a stage)" * decides] if decides or not free else []
    if tied:
        may = f"only {', '.join(FREE)} and the metrics of validations may change, as no weight depends on them"
        raise UserError(f"{where} cannot go on with another training: {'; '.join(tied)}. When a run goes on, {may}")
    return found


def _flat(tables: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tables.items():
        found |= _flat(value, (*path, key)) if isinstance(value, Mapping) else {(*path, key): value}
    return found


@functools.cache
def _package(name: str) -> tuple[str, tuple[str, ...]]:
    """A top-level package's hash and what it imports; nothing of one that is installed. Read once a process, which imports it once too."""
    found = Path("" if name in sys.stdlib_module_names else file_of(name))
    if found.suffix != ".py" or _INSTALLED.intersection(found.parts):
        return "", ()
    files = found.parent.rglob("*.py") if found.name == "__init__.py" else [found]
    places = [place for file in files if not {"tests", "docs"}.intersection((place := file.relative_to(found.parent)).parts)]
    texts = [(place.as_posix(), (found.parent / place).read_bytes()) for place in sorted(places)]
    digest = hashlib.sha256(b"".join(f"{place}\0{len(text)}\0".encode() + text for place, text in texts)).hexdigest()[:16]
    return digest, tuple({one or other for _, text in texts for one, other in _IMPORT.findall(text.decode(errors="replace"))})


def _contents(one: Dependency) -> str:
    """The hash of a file, or of what is taken from a run: its model, or (raw) the record of its newest checkpoint, which has hashes itself."""
    raw = sorted(one.where.glob("checkpoints/step-*/hashes.json"))[-1:] if one.weights == "raw" else []
    path = raw[0] if raw else one.where / "model" / "weights.safetensors" if one.kind == "run" else one.where
    if not path.is_file():
        return "missing" if one.kind == "run" else ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
