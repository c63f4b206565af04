"""What a run directory holds for its report. Every piece may be absent: an interrupted run still has a report."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm.glossary import Glossary
from ibllm.opening import load_run
from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory

from .results import is_number

Object = Mapping[str, Any]


def described(record: Mapping[str, Any]) -> str:
    """How a figure came about, as one line: ``n 512, extractor random, features 64``."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in record.items())


@attrs.frozen(kw_only=True)
class Picture:
    """A PNG as a data URI, with the size it has in pixels."""

    uri: str
    width: int
    height: int

    @property
    def scale(self) -> int:
        """How often a small picture is enlarged: whole numbers only, so that its pixels stay square."""
        return max(1, 128 // max(self.width, 1))


@attrs.frozen(kw_only=True)
class Item:
    """One sample: a caption, its real and its generated image, the captions read off both, and what the metrics say of them."""

    index: int | None
    caption: str | None
    language: str
    real: Picture | None
    generated: Picture | None
    read: str | None
    reread: str | None
    right: Mapping[str, bool]


@attrs.frozen(kw_only=True)
class RunFiles:
    """A run directory, read.

    Attributes:
        run: run.json.
        results: results.json.
        rows: the lines of metrics.jsonl; those of one kind, stage and step are one row, in which later values win (after a restart, steps come again).
        recipe_text, recipe: recipe.toml as text and parsed.
        samples: split → items, the split to look at first in front.
        glossary: what the run's figures, splits and marks mean.
        knobs: what was turned while it trained, in order: ``step``, ``stage``, ``set``, ``by``.
    """

    path: Path
    run: Object
    results: Object
    rows: Sequence[Object]
    recipe_text: str
    recipe: Object
    samples: Mapping[str, Sequence[Item]]
    glossary: Glossary
    knobs: Sequence[Object] = ()

    def of_kind(self, kind: str) -> list[Object]:
        """The rows of a kind, by step."""
        return sorted((row for row in self.rows if row.get("kind") == kind), key=lambda row: float(row["step"]))


def read(run_dir: Path) -> RunFiles:
    """Raises `FileNotFoundError` if there is no directory; whatever is missing or broken inside is left out."""
    if not run_dir.is_dir():
        raise FileNotFoundError(f"{run_dir}: no such run directory")
    text = _text(run_dir / "recipe.toml")
    try:
        recipe: Object = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        recipe = {}
    run = read_object(run_dir / "run.json")
    glossary = glossary_of(RunDirectory(run_dir), run)
    return RunFiles(
        path=run_dir,
        run=run,
        results=read_object(run_dir / "results.json"),
        rows=_rows(run_dir / "metrics.jsonl"),
        recipe_text=text,
        recipe=recipe,
        samples=_samples(run_dir / "samples", glossary),
        glossary=glossary,
        knobs=[knob for knob in objects(read_object(run_dir / "knobs.json").get("knobs")) if is_number(knob.get("step"))],
    )


def glossary_of(directory: RunDirectory, info: Object) -> Glossary:
    """What run.json, `info`, keeps of the meaning of figures, and against them. A run of 0.1.0 keeps nothing: then what its recipe's components say.

    Nothing where one of them is not installed: figures then go by their bare names.
    """
    try:
        found = Glossary.read(info)
    except (AttributeError, KeyError, TypeError, ValueError):
        try:
            found = Glossary.of(load_run(directory))
        except (UserError, OSError):
            found = Glossary()
    return found.cautioned(records_of(info))


def records_of(info: Object) -> list[Object]:
    """How each metric's figures came about on each split, as far as run.json, `info`, says it."""
    splits = info.get("metrics")
    tables = [metrics for metrics in splits.values() if isinstance(metrics, Mapping)] if isinstance(splits, Mapping) else []
    return [record for metrics in tables for record in metrics.values() if isinstance(record, Mapping)]


def objects(value: object) -> list[Object]:
    """The objects of a JSON list; nothing of anything else."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, (list, tuple)) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_object(path: Path) -> Object:
    """A JSON file; empty where there is none, or no object in it."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> list[Object]:
    found: dict[tuple[Any, Any, float], Object] = {}
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the line that was being written when the run was cut off
            continue
        if isinstance(row, dict) and is_number(row.get("step")):
            key = str(row.get("kind")), str(row.get("stage")), float(row["step"])
            found[key] = {**found.get(key, {}), **row}
    return list(found.values())


def _samples(folder: Path, glossary: Glossary) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        content = read_object(path)
        items = [_item(entry, folder) for entry in objects(content.get("items"))]
        if items:
            splits[str(content.get("split", path.stem))] = items
    first = glossary.first_split(splits)
    return dict(sorted(splits.items(), key=lambda entry: entry[0] != first))


def _item(entry: Object, folder: Path) -> Item:
    def text(key: str) -> str | None:
        value = entry.get(key)
        return value if isinstance(value, str) else None

    right = entry.get("right")
    index = entry.get("index")
    return Item(
        index=index if isinstance(index, int) else None,
        caption=text("caption"),
        language=text("language") or "und",
        real=read_picture(folder, text("real")),
        generated=read_picture(folder, text("generated")),
        read=text("read"),
        reread=text("reread"),
        right=dict(_flags(right)) if isinstance(right, Mapping) else {},
    )


def _flags(right: Object) -> Iterator[tuple[str, bool]]:
    for name, value in right.items():
        if isinstance(value, bool):
            yield str(name), value


def read_picture(folder: Path, name: str | None) -> Picture | None:
    """A PNG in the folder; None where there is none."""
    # A name is a file in the folder, never a path out of it.
    if name is None or Path(name).name != name:
        return None
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return None
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 24:
        return None
    width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
    return Picture(uri=f"data:image/png;base64,{base64.b64encode(content).decode()}", width=width, height=height)
