"""``study.html``: an analysis as one self-contained page, in the style of a run's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm.figures import DRAWING
from ibllm.glossary import Glossary
from ibllm.units import readable, readable_bytes
from ibllm_report.files import Picture, RunFiles, read
from ibllm_report.highlight import coloured
from ibllm_report.page import duration
from ibllm_report.results import split_of
from ibllm_report.sample_cards import Deck, decks, right_about, used

from . import charts, tables, wording
from .analysis import Analysis, Cost
from .findings import Findings, FoundRun
from .fingerprints import UNKNOWN, states, told
from .interactions import interactions
from .sweeps import sweeps


def page(analysis: Analysis) -> str:
    """The whole page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ibllm_report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    return environment.get_template("study.html.j2").render(_content(analysis))


def _content(analysis: Analysis) -> dict[str, Any]:
    found = analysis.findings
    files = {run.path: read(run.path) for _, run in found.runs if run.done and not found.foreign}
    samples = [item for own in files.values() for items in own.samples.values() for item in items]
    done = sum(run.done for _, run in found.runs)
    decided = [plot for figure in found.primaries if (plot := charts.decided(analysis, figure)) is not None]
    return {
        "found": found,
        "status": "done" if done == len(found.runs) else f"{done} of {len(found.runs)} runs",
        "headline": wording.headline(analysis),
        "verdict": wording.verdict(analysis),
        "foresight": analysis.foresight.sentences(),
        "notes": wording.notes(analysis),
        "primary_tables": tables.primary_tables(analysis),
        "forest": decided,
        "interactions": interactions(analysis),
        "splits": found.glossary.splits,
        "all_figures": _all_figures(analysis),
        "exploratory": _exploratory(analysis),
        "overall": analysis.overall,
        "sweeps": sweeps(analysis),
        "learning": charts.learning(analysis, files) if files else [],
        "pareto": charts.pareto(analysis),
        "costs": _costs(analysis),
        "grids": grids(found, files),
        "judged": used(samples, found.glossary)[DRAWING],
        "runs": [(arm.name, [_run(analysis, arm.runs.get(seed)) for seed in found.seeds]) for arm in found.arms],
        "failures": [(arm.name, run, found.shown(run.log) if run.log else "") for arm, run in found.runs if not run.done],
        "recipe": coloured(found.recipe),
        "made": _made(found),
        "attributions": _distinct(run.info.get("attribution") for _, run in found.runs),
    }


def _run(analysis: Analysis, run: FoundRun | None) -> tuple[bool, str]:
    """(whether it is done, its primary figure or its status)."""
    if run is None:
        return True, ""
    value = run.results.get(analysis.findings.primary)
    return run.done, run.status if not run.done else wording.NONE if value is None else analysis.units[analysis.findings.primary].number(
        value
    )


@attrs.frozen(kw_only=True)
class FigureRow:
    """A figure over the arms: each cell is the mean and the difference, as text."""

    figure: str
    label: str
    direction: str
    meaning: str
    caution: str
    cells: Sequence[tuple[str, str]]


def _all_figures(analysis: Analysis) -> list[tuple[str, list[FigureRow]]]:
    """(split, its rows), in the order of the figures."""
    found: dict[str, list[FigureRow]] = {}
    for figure in analysis.figures:
        split, name = split_of(figure)
        about, unit = analysis.findings.glossary.figure(name), analysis.units[figure]
        lines = [analysis.line(arm, figure) for arm in analysis.findings.arms]
        cells = [
            (wording.mean_and_half(unit, line.summary), wording.difference(unit, line.comparison) if line.comparison else "")
            for line in lines
        ]
        label = f"{about.label}{f' ({unit.unit})' if unit.unit else ''}"
        direction = about.direction + (", lower is better" if about.better == "lower" else "")
        found.setdefault(split, []).append(
            FigureRow(figure=name, label=label, direction=direction, meaning=about.meaning, caution=about.caution, cells=cells)
        )
    return list(found.items())


def _exploratory(analysis: Analysis) -> list[tuple[str, list[Any]]]:
    """(split, forest plots of its secondary figures)."""
    found: dict[str, list[Any]] = {}
    for figure in analysis.figures[len(analysis.findings.primaries) :]:
        plot = charts.differences(analysis, figure)
        if plot is not None:
            found.setdefault(split_of(figure)[0], []).append(plot)
    return list(found.items())


def _memory_of(found: Findings) -> str:
    """What the memory is of, as run.json says it."""
    named = [memory.get("of") for _, run in found.runs if isinstance(memory := run.info.get("memory"), Mapping)]
    return ", ".join(_distinct(named)) or "of the process"


def _costs(analysis: Analysis) -> list[tuple[str, list[str]]]:
    """(what, a text for each arm); what no run says is left out."""
    writers: dict[str, tuple[str, Callable[[float], str]]] = {
        "parameters": ("Parameters", lambda value: f"{value:,.0f}"),
        "flops": ("Training compute (FLOPs)", readable),
        "seconds": ("Training time, mean of the runs", duration),
        "memory": (f"Peak memory, {_memory_of(analysis.findings)}, mean of the runs", readable_bytes),
    }
    out = []
    for field in attrs.fields(Cost):
        what, write = writers[field.name]
        values = [getattr(cost, field.name) for cost in analysis.costs.values()]
        if any(value is not None for value in values):
            out.append((what, [wording.NONE if value is None else write(value) for value in values]))
    return out


@attrs.frozen(kw_only=True)
class GridRow:
    """A caption, its real image, and (image, whether it is right) an arm; None where the arm has none."""

    caption: str
    language: str
    real: Picture | None
    drawn: Sequence[tuple[Picture | None, bool | None]]


@attrs.frozen(kw_only=True)
class Grid:
    """What the arms drew for the same captions with the same seed."""

    split: str
    seed: int
    rows: Sequence[GridRow]


def grids(found: Findings, files: Mapping[Path, RunFiles]) -> list[Grid]:
    """One grid a split, of the first seed for which most arms have drawings."""
    by_seed = {seed: [_decks(arm.runs.get(seed), files, found.glossary) for arm in found.arms] for seed in found.seeds}
    drawn = {seed: sum(any(deck.drawings for deck in own.values()) for own in arms) for seed, arms in by_seed.items()}
    seed = max(drawn, key=drawn.__getitem__, default=None)
    if seed is None or not drawn[seed]:
        return []
    arms = by_seed[seed]
    splits = dict.fromkeys(split for own in arms for split in own)
    out = []
    for split in splits:
        by_caption = [{(card.item.index, card.item.caption): card for card in own[split].drawings} if split in own else {} for own in arms]
        keys = dict.fromkeys(key for cards in by_caption for key in cards)
        rows = []
        for key in keys:
            cards = [cards.get(key) for cards in by_caption]
            item = next(card for card in cards if card is not None).item
            pictures = [
                (None, None) if card is None else (card.item.generated, right_about(card.item, DRAWING, found.glossary)) for card in cards
            ]
            rows.append(GridRow(caption=item.caption or "", language=item.language, real=item.real, drawn=pictures))
        if rows:
            out.append(Grid(split=split, seed=seed, rows=rows))
    return out


def _decks(run: FoundRun | None, files: Mapping[Path, RunFiles], glossary: Glossary) -> dict[str, Deck]:
    return {deck.split: deck for deck in decks(files[run.path].samples, glossary)} if run is not None and run.path in files else {}


def _made(found: Findings) -> list[tuple[str, list[str]]]:
    """(what, its values over the runs, each once)."""
    infos, made = [run.info for _, run in found.runs], states(found)
    versions = _distinct(_in_words(info.get("versions")) for info in infos)
    hardware = _distinct(_in_words(info.get("hardware"), without=("memory_gib",)) for info in infos)
    packages = _distinct(
        f"{entry.get('distribution', '?')}=={entry.get('version', '?')}"
        for info in infos
        for entry in _values(info.get("provenance"))
        if isinstance(entry, Mapping)
    )
    rows = [
        ("command", [found.command]),
        ("seeds", [", ".join(map(str, found.seeds))]),
        ("versions", versions),
        ("components from", packages),
        ("hardware", hardware),
        ("source and versions: runs of one letter share them", _known(made.source)),
        ("data: runs of one letter share them", _known(made.data)),
    ]
    return [(what, values) for what, values in rows if values]


def _known(letters: Mapping[tuple[str, int], str]) -> list[str]:
    """Which runs share a letter; nothing where no run says."""
    return told(letters) if set(letters.values()) - {UNKNOWN} else []


def _values(table: object) -> list[Any]:
    return list(table.values()) if isinstance(table, Mapping) else []


def _in_words(table: object, without: Sequence[str] = ()) -> str:
    return ", ".join(f"{name} {value}" for name, value in table.items() if name not in without) if isinstance(table, Mapping) else ""


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))
