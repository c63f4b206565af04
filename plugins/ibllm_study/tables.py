"""The tables of an analysis as Markdown, LaTeX and CSV. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ibllm_report.results import split_of

from . import wording
from .analysis import Analysis, Line, run_cost
from .claims import effects
from .fingerprints import states
from .latex import table as latex_table
from .latex import text as latex_text

_NBSP = "\u00a0"
#: Arms beside each other in a LaTeX table of secondary figures.
_ARMS_BESIDE = 5


@attrs.frozen(kw_only=True)
class Table:
    """Text by columns; the first column names rows, and the others are numbers.

    Attributes:
        title: what it shows; empty for the only one.
        sizes: how many of the last columns are effect sizes, for which a terminal has no room.
    """

    title: str = ""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sizes: int = 0

    @property
    def align(self) -> str:
        return "l" + "r" * (len(self.header) - 1)


def markdown(analysis: Analysis) -> str:
    """The primary figure by arm, what must be known to read it, and all other figures, marked as exploratory."""
    found = analysis.findings
    lines = [
        f"# {_plain(found.name)}",
        "",
        f"Primary figure: {_plain(wording.headline(analysis))}.",
        "",
        _plain(wording.verdict(analysis)),
        "",
    ]
    for table in primary_tables(analysis):
        lines += [*([f"## {_plain(table.title)}", ""] if table.title else []), *_pipes(table.header, table.rows, table.align), ""]
    lines.pop()
    lines += ["", *(f"- {_plain(note)}" for note in wording.notes(analysis)), ""]
    secondary = analysis.distinct()
    if secondary:
        lines += ["## Other figures", "", _exploratory(analysis), ""]
        lines += _pipes(
            ["figure", *(arm.name for arm in found.arms)], (_wide(analysis, figures) for figures in secondary), "l" + "r" * len(found.arms)
        )
        lines.append("")
    if not found.foreign:
        lines += ["## What differs from the base", ""]
        lines += [f"- {_plain(arm.name)}: {'; '.join(map(_code, arm.differs)) or 'nothing'}" for arm in found.arms[1:]]
    return "\n".join(lines) + "\n"


def latex(analysis: Analysis) -> str:
    """The same for ``\\input``; needs ``\\usepackage{booktabs}`` only."""
    found = analysis.findings
    out = ["% \\usepackage{booktabs}", f"% {found.command}".replace("\n", " "), ""]
    notes = " ".join(latex_text(note) for note in wording.notes(analysis)[:2])
    caption = f"{latex_text(found.name)}: {latex_text(wording.headline(analysis))}. {notes}"
    for number, table in enumerate(primary_tables(analysis)):
        above = caption if number == 0 else f"{latex_text(found.name)}: {latex_text(table.title)}."
        out.append(
            latex_table(table.header, table.rows, table.align, above, f"tab:{_slug(found.name)}" + (f"-{number + 1}" if number else ""))
        )
    secondary = analysis.distinct()
    base, others = found.arms[0], found.arms[1:]
    for number, start in enumerate(range(0, len(others), _ARMS_BESIDE) if secondary else ()):
        arms = [base, *others[start : start + _ARMS_BESIDE]]
        rows = [[_named(analysis, *figures), *(_cell(analysis, arm.name, figures[0]) for arm in arms)] for figures in secondary]
        caption = f"{latex_text(found.name)}, other figures. {latex_text(_exploratory(analysis))}"
        label = f"tab:{_slug(found.name)}-other" + (f"-{number + 1}" if number else "")
        out.append(latex_table(["figure", *(arm.name for arm in arms)], rows, "l" + "r" * len(arms), caption, label))
    return "\n".join(out)


def primary_tables(analysis: Analysis) -> list[Table]:
    """What the study decides by, the deciding table first."""
    if analysis.findings.factorial is not None:
        return [_of_effects(analysis), _of_cells(analysis)]
    return [_of_arms(analysis)]


def _heads(analysis: Analysis) -> tuple[str, str]:
    """``mean [95 % CI] (%)``, and what stands over differences behind their name."""
    unit = analysis.units[analysis.findings.primary]
    interval = f"[{100 * analysis.findings.confidence:g}{_NBSP}%{_NBSP}CI]"
    mean_in, differences_in = (f" ({short})" if short else "" for short in (unit.unit, "points" if unit.percent else unit.unit))
    return f"mean {interval}{mean_in}", f"{interval}{differences_in}"


def _of_arms(analysis: Analysis) -> Table:
    """One row an arm, in the study's order."""
    unit = analysis.units[analysis.findings.primary]
    rows: list[list[str]] = []
    for arm in analysis.findings.arms:
        line = analysis.line(arm, analysis.findings.primary)
        compared = [wording.difference(unit, line.comparison), *wording.p_values(line.comparison), *wording.effects(line.comparison)]
        rows.append([arm.name, analysis.counted(arm), wording.mean(unit, line.summary), *compared])
    mean, behind = _heads(analysis)
    return Table(header=["arm", "n", mean, f"difference {behind}", "p (t-test)", "p (sign-flip)", "g_z", "g"], rows=rows, sizes=2)


def _of_effects(analysis: Analysis) -> Table:
    """One row an effect that was asked for."""
    unit = analysis.units[analysis.findings.primary]
    rows: list[list[str]] = []
    for claim in analysis.claims:
        means = " → ".join(wording.NONE if mean is None else unit.number(mean) for mean in claim.means)
        tested = [wording.difference(unit, claim.comparison), *wording.p_values(claim.comparison), wording.effects(claim.comparison)[0]]
        rows.append([claim.label, str(claim.comparison.n), means, *tested])
    mean, behind = _heads(analysis)
    over = f"means at − and +{mean.rpartition(']')[2]}"
    return Table(
        title="Effects", header=["effect", "seeds", over, f"effect {behind}", "p (t-test)", "p (sign-flip)", "g_z"], rows=rows, sizes=1
    )


def _of_cells(analysis: Analysis) -> Table:
    """One row a cell: its factors' levels and its mean."""
    found = analysis.findings
    assert found.factorial is not None
    unit = analysis.units[found.primary]
    rows = [
        [arm.name, *("+" if name in arm.high else "−" for name in found.factorial.factors), analysis.counted(arm),
         wording.mean(unit, analysis.line(arm, found.primary).summary)]
        for arm in found.arms
    ]  # fmt: skip
    return Table(title="Cells", header=["cell", *found.factorial.factors, "n", _heads(analysis)[0]], rows=rows)


#: Columns of table.csv: figures, differences and their intervals are in the figure's own units (fractions in [0, 1]); empty where there is nothing to say.
LONG = (
    "arm", "figure", "primary", "runs", "n", "mean", "sd", "low", "high", "interval", "confidence", "seeds_in_common", "difference", "difference_sd",
    "difference_low", "difference_high", "difference_low_all", "difference_high_all", "p_t", "p_sign_flip", "p_t_holm", "p_sign_flip_holm", "comparisons",
    "d_z", "g_z", "g", "probability_of_improvement", "sign_flip_cannot_pass", "note",
)  # fmt: skip


def long_csv(analysis: Analysis) -> str:
    """One row an arm and figure, unrounded."""
    return _csv(*long_table(analysis))


def long_table(analysis: Analysis) -> tuple[Sequence[str], list[list[Any]]]:
    """The header and the rows of the same."""
    arms = {arm.name: arm for arm in analysis.findings.arms}
    return LONG, [_long(analysis, line, len(arms[line.arm].runs)) for line in analysis.lines.values()]


def _long(analysis: Analysis, line: Line, runs: int) -> list[Any]:
    own, c, primary = line.summary, line.comparison, line.figure == analysis.findings.primary
    row = [line.arm, line.figure, primary, runs, own.n, own.mean, own.sd, own.low, own.high, own.method, own.confidence]
    if c is None:
        return [*row, *[None] * (len(LONG) - len(row) - 1), own.note]
    corrected = [c.p_t_holm, c.p_permutation_holm, c.family] if primary else [None, None, None]
    together = [c.low_all, c.high_all] if primary else [None, None]
    better = c.improvement if primary else None
    return [
        *row, c.n, c.difference, c.sd, c.low, c.high, *together, c.p_t, c.p_permutation, *corrected, c.d_z, c.g_z, c.g,
        better, wording.cannot_pass(c), "; ".join(dict.fromkeys(filter(None, (own.note, c.note)))),
    ]  # fmt: skip


#: Columns of effects.csv: as in table.csv; the means are those over the cells whose product of levels is −1, and +1.
EFFECTS = (
    "effect", "aliases", "figure", "primary", "seeds", "mean_minus", "mean_plus", "difference", "difference_sd", "difference_low", "difference_high",
    "confidence", "difference_low_all", "difference_high_all", "p_t", "p_sign_flip", "p_t_holm", "p_sign_flip_holm", "effects", "d_z", "g_z", "note",
)  # fmt: skip


def effects_csv(analysis: Analysis) -> str:
    """One row a figure and an effect of a factorial design, unrounded; figures that decide nothing are uncorrected and without p-values."""
    found = analysis.findings
    assert found.factorial is not None
    rows: list[list[Any]] = []
    for figure in analysis.figures:
        primary = figure == found.primary
        for claim in analysis.claims if primary else effects(found, figure):
            c = claim.comparison
            assert claim.effect is not None
            tested = [c.low_all, c.high_all, c.p_t, c.p_permutation, c.p_t_holm, c.p_permutation_holm, c.family] if primary else [None] * 7
            rows.append(
                [claim.label, wording.aliased(claim.effect), figure, primary, c.n, *claim.means, c.difference, c.sd, c.low, c.high,
                 c.confidence, *tested, c.d_z, c.g_z, c.note]
            )  # fmt: skip
    return _csv(EFFECTS, rows)


def runs_csv(analysis: Analysis) -> str:
    """One row a run, whatever became of it."""
    return _csv(*runs_table(analysis))


def runs_table(analysis: Analysis) -> tuple[Sequence[str], list[list[Any]]]:
    """The header and the rows of the same."""
    found, made = analysis.findings, states(analysis.findings)
    rows = []
    for arm, run in found.runs:
        cost = run_cost(run)
        figures = [run.results.get(figure) for figure in analysis.figures]
        costs = [cost.seconds, _whole(cost.parameters), _whole(cost.flops), _whole(cost.memory)]
        state = [letters.get((arm.name, run.seed)) for letters in (made.source, made.data)]
        rows.append([arm.name, run.seed, run.status, run.reason, *figures, *costs, *state, found.shown(run.path)])
    header = [
        "arm",
        "seed",
        "status",
        "reason",
        *analysis.figures,
        "training_seconds",
        "parameters",
        "training_flops",
        "peak_memory_bytes",
        "source_state",
        "data_state",
        "path",
    ]
    return header, rows


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_value(value) for value in row] for row in rows)
    return out.getvalue()


def _value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _wide(analysis: Analysis, figures: Sequence[str]) -> list[str]:
    return [_named(analysis, *figures), *(_cell(analysis, arm.name, figures[0]) for arm in analysis.findings.arms)]


def _cell(analysis: Analysis, arm: str, figure: str) -> str:
    return wording.mean_and_half(analysis.units[figure], analysis.lines[arm, figure].summary)


def _named(analysis: Analysis, *figures: str) -> str:
    """A row's name; figures that are equal in every run share it."""
    return " = ".join(_name(analysis, figure) for figure in figures)


def _name(analysis: Analysis, figure: str) -> str:
    split, name = split_of(figure)
    lower = "lower is better" if analysis.findings.glossary.figure(name).better == "lower" else ""
    notes = ", ".join(filter(None, (analysis.units[figure].unit, lower)))
    return f"{split or 'all'}: {analysis.units[figure].label}" + (f" ({notes})" if notes else "")


def _exploratory(analysis: Analysis) -> str:
    return f"Exploratory: means with {100 * analysis.findings.confidence:g} % intervals, uncorrected; nothing was decided by them."


def _pipes(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    rule = ["---" if side == "l" else "---:" for side in align]
    return [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in (header, rule, *rows)]


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#$&~" else c for c in text.replace("\n", " "))


def _code(text: str) -> str:
    within = text.replace("`", "'")
    return f"`{within}`"


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "study"
