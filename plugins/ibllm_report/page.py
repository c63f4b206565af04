"""The page: a run directory in, one self-contained HTML file out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from ibllm.glossary import Glossary
from ibllm.units import readable, readable_bytes
from ibllm_core.runs.directory import write_text

from . import charts, sample_cards
from .files import Object, RunFiles, described, objects, read
from .highlight import coloured
from .panels import read_panels
from .results import Cell, ResultsTable, Row, is_number, table
from .told import told
from .under_attack import read_attacks

_ROLES = {
    "text_encoder": "reads the caption",
    "image_decoder": "draws the image",
    "image_encoder": "looks at the image",
    "text_decoder": "writes the caption",
    "discriminator": "judges drawings while training",
    "image_tokenizer": "turns images into tokens or latents and back",
}
_PROVENANCE_GROUPS = {
    "data": "Data",
    "unpaired": "Data",
    "tokenizers": "Tokenizers",
    "model": "Model",
    "losses": "Losses",
    "metrics": "Metrics",
    "players": "Optimizers",
}


def render(run_dir: Path) -> Path:
    """Writes RUN/report.html from what the run directory holds (run.json, results.json, metrics.jsonl, recipe.toml, samples/, panels/) and gives its path.

    Pieces that are absent or broken are left out of the page. Raises `FileNotFoundError` if there is no such directory.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ibllm_report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    html = environment.get_template("report.html.j2").render(_content(read(run_dir)))
    target = run_dir / "report.html"
    write_text(target, html)
    return target


def duration(seconds: object) -> str:
    """222.4 → ``3 min 42 s``."""
    if not isinstance(seconds, (int, float)) or not is_number(seconds):
        return "—"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@attrs.frozen(kw_only=True)
class StageView:
    """A stage as the page shows it; what neither the run nor its recipe says is None or empty."""

    name: str
    done: int | None
    steps: int | None
    seconds: float | None
    best_step: int | None
    note: str
    trained: str
    losses: str

    @property
    def complete(self) -> bool:
        return self.done is not None and self.steps is not None and self.done >= self.steps


def _content(files: RunFiles) -> dict[str, Any]:
    run = files.run
    found = table(files.results, files.glossary)
    return {
        "name": str(run.get("name") or files.recipe.get("name") or files.path.resolve().name),
        "status": str(run.get("status") or "unknown"),
        "created": _moment(run.get("created")),
        "finished": _moment(run.get("finished")),
        "command": run.get("command"),
        "about": _about(files),
        "headlines": _headlines(found, files.glossary),
        "table": found,
        "splits": files.glossary.splits,
        "told": told(run),
        "stages": _stages(files),
        "parts": _parts(run),
        "after_stages": charts.after_stages(files),
        "loss_plots": charts.losses(files),
        "validation_plots": charts.validation(files),
        "training_plots": charts.training(files),
        "knobs": [
            (int(knob["step"]), str(knob.get("stage", "")), ", ".join(map(str, knob.get("set", ()))), str(knob.get("by", "")))
            for knob in files.knobs
        ],
        "decks": sample_cards.decks(files.samples, files.glossary),
        "marks": sample_cards.used(chain.from_iterable(files.samples.values()), files.glossary),
        "panels": read_panels(files.path),
        "attacks": read_attacks(files.path),
        "timings": _timings(run),
        "costs": _costs(run),
        "recipe": coloured(files.recipe_text),
        "machine": _machine(run),
        "provenance": _provenance(run),
        "measured": _measured(run),
        "attribution": run.get("attribution"),
    }


def _about(files: RunFiles) -> list[str]:
    """Sentences on what was trained, from the parts that there are."""
    run, data = files.run, files.recipe.get("data")
    there = {str(part.get("part")) for part in objects(run.get("parts"))}
    draws, writes = {"text_encoder", "image_decoder"} <= there, {"image_encoder", "text_decoder"} <= there
    what = {
        (True, True): "A model that draws images from captions and writes captions of images",
        (True, False): "A model that draws images from captions",
        (False, True): "A model that writes captions of images",
    }.get((draws, writes), "A model")
    parameters = sum(int(part["parameters"]) for part in objects(run.get("parts")) if is_number(part.get("parameters")))
    out = [f"{what}, {_count(parameters)} parameters in {len(there)} parts." if parameters else f"{what}."]
    if isinstance(data, Mapping) and "use" in data:
        languages = data.get("languages")
        spoken = f" in {', '.join(map(str, languages))}" if isinstance(languages, list) and languages else ""
        out.append(f"Trained on the dataset {data['use']}{spoken}.")
    return out


def _count(number: int) -> str:
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:,}"


def _headlines(found: ResultsTable, glossary: Glossary) -> list[tuple[Row, Cell]]:
    """The first few figures of the split to look at first, of every direction (the round trip among them) one at least; none that needs a caution."""
    rows = [row for row in found.rows if found.primary in row.cells and row.figure.name in glossary.figures and not row.figure.caution]
    fractions = [row for row in rows if row.figure.percent] or rows
    first: dict[str, Row] = {}
    for row in fractions:
        first.setdefault(row.figure.direction, row)
    chosen = [*first.values(), *(row for row in fractions if row is not first[row.figure.direction])][:4]
    return [(row, row.cells[found.primary or ""]) for row in fractions if row in chosen]


def _stages(files: RunFiles) -> list[StageView]:
    entries = {str(entry.get("name")): entry for entry in objects(files.run.get("stages"))}
    recipe = files.recipe.get("stages")
    tables: Object = recipe if isinstance(recipe, Mapping) else {}
    out = []
    for name in charts.stage_names(files):
        entry, table = entries.get(name, {}), tables.get(name)
        table = table if isinstance(table, Mapping) else {}
        train, losses = table.get("train", ()), table.get("losses", ())
        out.append(
            StageView(
                name=name,
                steps=_whole(entry.get("steps", table.get("steps"))),
                done=_whole(entry.get("done")),
                seconds=float(entry["seconds"]) if is_number(entry.get("seconds")) else None,
                best_step=_best(entry),
                note=str(entry.get("note") or ""),
                trained=train if isinstance(train, str) else ", ".join(str(part).replace("_", " ") for part in train),
                losses=", ".join(str(loss).replace("_", " ") for loss in losses),
            )
        )
    return out


def _best(entry: Object) -> int | None:
    """The step of a stage whose weights it kept; None where nothing was watched."""
    step = _whole(entry.get("best_step"))
    return step if step is not None and step >= 0 else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and is_number(value) else None


def _parts(run: Object) -> list[dict[str, Any]]:
    found = objects(run.get("parts"))
    largest = max((_whole(part.get("parameters")) or 0 for part in found), default=0)
    return [
        {
            "part": str(part.get("part", "")).replace("_", " "),
            "role": _ROLES.get(str(part.get("part")), ""),
            "component": str(part.get("component", "—")).removeprefix(f"{part.get('part')}."),
            "parameters": _whole(part.get("parameters")),
            "share": round(100 * (_whole(part.get("parameters")) or 0) / largest, 1) if largest else 0,
        }
        for part in found
    ]


def _timings(run: Object) -> list[tuple[str, float, float]]:
    """(what, seconds, percent of the longest)."""
    found = run.get("timings")
    known = {str(name): float(value) for name, value in found.items() if is_number(value)} if isinstance(found, Mapping) else {}
    longest = max(known.values(), default=0.0)
    return [(name.replace("_", " "), seconds, round(100 * seconds / longest, 1) if longest > 0 else 0.0) for name, seconds in known.items()]


def _costs(run: Object) -> list[tuple[str, str]]:
    """(what, value): what the training took, apart from time."""
    out, memory = [], run.get("memory")
    if is_number(run.get("training_flops")):
        out.append(("training, forward and backward", f"{readable(run['training_flops'])} FLOPs"))
    if isinstance(memory, Mapping) and is_number(memory.get("peak_bytes")):
        out.append((f"peak memory, {memory.get('of', 'of the process')}", readable_bytes(memory["peak_bytes"])))
    return out


def _machine(run: Object) -> list[tuple[str, str]]:
    """(what, value): hardware, versions, seeds, and where the code stood if the run knows."""
    out = []
    for key, label in (("hardware", ""), ("versions", ""), ("seed", "seed "), ("fingerprint", "fingerprint of "), ("git", "git ")):
        found = run.get(key)
        if isinstance(found, Mapping):
            out += [(f"{label}{name}".replace("_gib", " (GiB)").replace("_", " "), str(value)) for name, value in found.items()]
        elif found is not None:
            out.append((key, str(found)))
    return out


def _provenance(run: Object) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(group, [(place in the recipe, component, distribution==version)])."""
    found = run.get("provenance")
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for place, entry in found.items() if isinstance(found, Mapping) else ():
        if isinstance(entry, Mapping):
            row = (str(place), str(entry.get("component", "—")), f"{entry.get('distribution', '?')}=={entry.get('version', '?')}")
            groups.setdefault(_PROVENANCE_GROUPS.get(str(place).split(".")[0], "Other"), []).append(row)
    return list(groups.items())


def _measured(run: Object) -> list[tuple[str, list[tuple[str, str]]]]:
    """(split, [(metric, how its figures came about)])."""
    found = run.get("metrics")
    return [
        (str(split), [(str(name), described(entry)) for name, entry in metrics.items() if isinstance(entry, Mapping)])
        for split, metrics in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(metrics, Mapping)
    ]


def _moment(value: object) -> str:
    """A time as the run wrote it; seconds since 1970 as UTC."""
    if isinstance(value, (int, float)) and is_number(value):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if not isinstance(value, str) or not value:
        return ""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return moment.strftime("%Y-%m-%d %H:%M") + (f" {moment.tzname()}" if moment.tzinfo else "")
