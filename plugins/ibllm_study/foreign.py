"""Figures that others wrote: a table with a row a run (``arm``, ``seed``, a column a figure) as `Findings`. Torch-free."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm.figures import Figure
from ibllm.glossary import Glossary
from ibllm_core.errors import UserError, suggestion, system_error
from ibllm_core.host.manager import PluginError, manager
from ibllm_core.host.options import MetricConfig
from ibllm_report.results import split_of

from .directory import DONE
from .findings import Findings, FoundArm, FoundRun, direction
from .schema import BASE

#: Columns that are no figures: those of a study's runs.csv beside its figures, and what they are in run.json.
STATED = ("status", "reason", "path", "source_state", "data_state")
COSTS = ("training_seconds", "parameters", "training_flops", "peak_memory_bytes")
#: Mistakes of a table that are told one by one.
_MOST = 20


def from_csv(path: Path, primary: str = "", mode: str = "", base: str = "", confidence: float = 0.95) -> Findings:
    """A CSV file's runs.

    Args:
        primary: the figure that decides; by default the first column that holds one.
        mode: ``max`` or ``min``; by default as a metric that is installed here says of a figure of that name.
        base: the arm that others are compared with; by default the one called ``base``, else that of the first row.

    Raises:
        UserError: the file cannot be read or says something else, with all its mistakes and their lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = system_error(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"cannot read {path}: {why or error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    rows = list(reader)
    command = ["ibllm", "compare", "--csv", str(path)]
    return from_rows(
        rows,
        str(path),
        reader.fieldnames or (),
        primary=primary,
        mode=mode,
        base=base,
        confidence=confidence,
        name=path.stem,
        command=command,
    )


def from_rows(
    rows: Sequence[Mapping[str, Any]],
    where: str,
    header: Sequence[str],
    *,
    name: str,
    command: Sequence[str] = (),
    primary: str = "",
    mode: str = "",
    base: str = "",
    confidence: float = 0.95,
) -> Findings:
    """The same of rows, a mapping a run; row number 0 stands in line 2 of `where`."""
    figures = [column for column in header if column and column not in ("arm", "seed", *STATED, *COSTS)]
    mistakes = [f"{where}: no column {column!r}; {suggestion(column, header)}" for column in ("arm", "seed") if column not in header]
    mistakes += [f"{where}: the column {column!r} is there twice" for column in dict.fromkeys(header) if list(header).count(column) > 1]
    if not figures:
        mistakes.append(f"{where}: no column holds a figure; expected arm, seed and at least one more")
    found: dict[str, dict[int, FoundRun]] = {}
    for number, row in enumerate(rows if not mistakes else (), 2):
        _take(row, f"{where}:{number}", figures, found, mistakes)
    if not mistakes and len(found) < 2:
        mistakes.append(f"{where}: {len(found)} arm{'s' * (len(found) != 1)}; expected two or more to compare")
    base = base or (BASE if BASE in found else next(iter(found), ""))
    if found and base not in found:
        mistakes.append(f"--base {base}: no arm is called so; {suggestion(base, found)}")
    if primary and primary not in figures:
        mistakes.append(f"--primary {primary}: no column is called so; {suggestion(primary, figures)}")
    if mistakes:
        rest = [f"and {len(mistakes) - _MOST} more"] if len(mistakes) > _MOST else []
        raise UserError("\n".join([*mistakes[:_MOST], *rest]))
    known, decides = installed(), primary or figures[0]
    # Columns keep their order.
    glossary = Glossary(figures={name: known.figure(name) for name in (split_of(column)[1] for column in figures)})
    options = {"--primary": primary, "--mode": mode, "--base": base if base != BASE else ""}
    return Findings(
        name=name,
        primary=decides,
        chosen=bool(primary),
        mode=mode or direction(decides, glossary),
        confidence=confidence,
        seeds=tuple(sorted({seed for runs in found.values() for seed in runs})),
        arms=tuple(
            FoundArm(name=arm, differs=(), runs=dict(sorted(found[arm].items()))) for arm in sorted(found, key=lambda arm: arm != base)
        ),
        command=shlex.join([*command, *(word for pair in options.items() if pair[1] for word in pair)]),
        root=Path(),
        glossary=glossary,
        foreign=True,
    )


def _take(row: Mapping[str, Any], place: str, figures: Sequence[str], found: dict[str, dict[int, FoundRun]], mistakes: list[str]) -> None:
    """Adds a row's run, or says what is wrong with it."""
    arm, seed, status = (str(row.get(key) or "").strip() for key in ("arm", "seed", "status"))
    if row.get(""):
        mistakes.append(f"{place}: more cells than columns")
    if not arm:
        mistakes.append(f"{place}: arm is empty")
    if not seed.isdecimal():
        mistakes.append(f"{place}: seed = {seed!r}; expected a whole number")
        return
    if int(seed) in found.get(arm, {}):
        mistakes.append(f"{place}: {arm!r} has seed {seed} twice; it would be counted as two runs")
        return
    values = {key: _number(row.get(key), f"{place}: {key}", mistakes) for key in (*figures, *COSTS)}
    done = status in ("", DONE)
    found.setdefault(arm, {})[int(seed)] = FoundRun(
        path=Path(str(row.get("path") or f"{arm}-{seed}")),
        seed=int(seed),
        status=DONE if done else status,
        reason=str(row.get("reason") or ""),
        results={key: value for key in figures if done and (value := values[key]) is not None},
        info={
            **costs(*(values[key] for key in COSTS)),
            **({"sources": {"source": row["source_state"]}} if row.get("source_state") not in (None, "", "?") else {}),
            **({"fingerprint": {"data": row["data_state"]}} if row.get("data_state") not in (None, "", "?") else {}),
        },
    )


def _number(cell: object, place: str, mistakes: list[str]) -> float | None:
    text = "" if cell is None else str(cell).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        mistakes.append(f"{place} = {text!r}; expected a finite number, or nothing where the run has none")
        return None
    return value


def costs(seconds: float | None, parameters: float | None, flops: float | None, memory: float | None) -> dict[str, Any]:
    """What a run cost, as run.json says it; what is None is left out."""
    said = {
        "timings": seconds if seconds is None else {"training": seconds},
        "parts": parameters if parameters is None else [{"parameters": parameters}],
        "training_flops": flops,
        "memory": memory if memory is None else {"peak_bytes": memory},
    }
    return {key: value for key, value in said.items() if value is not None}


def installed() -> Glossary:
    """What the metrics that are installed here say of figures; what two of them say otherwise is left out."""
    found: dict[str, Figure] = {}
    doubted: set[str] = set()
    for figure in _figures():
        if attrs.evolve(found.setdefault(figure.name, figure), meaning="", caution="") != attrs.evolve(figure, meaning="", caution=""):
            doubted.add(figure.name)
    return Glossary(figures={name: figure for name, figure in found.items() if name not in doubted})


def _figures() -> Iterable[Figure]:
    from ibllm_inspect.options import options_of

    for name in manager().names("metric"):
        try:
            config = manager().config_class("metric", name)
            made = config(**dict.fromkeys((option.key for option in options_of(config) if option.required), "x"))
        except (PluginError, ValueError, TypeError):
            continue
        if isinstance(made, MetricConfig):
            yield from (figure for figure in made.figures() if isinstance(figure, Figure))
