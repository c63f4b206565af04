"""The tables of an analysis as Markdown, LaTeX and CSV. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ibllm_report.results import split_of

from . import telling, wording
from .analysis import Analysis, Line, run_cost
from .claims import Claim, effects
from .fingerprints import states
from .latex import table as latex_table
from .latex import text as latex_text
from .schema import ALL_PAIRS

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
    """What the study decides by, the deciding table first; with several primary figures, each one's."""
    found = [table for figure in analysis.findings.primaries for table in _of_figure(analysis, figure)]
    return [attrs.evolve(found[0], title=""), *found[1:]] if len(analysis.findings.primaries) == 1 and not found[0].title else found


def _of_figure(analysis: Analysis, figure: str) -> list[Table]:
    found = analysis.findings
    several = f"{analysis.units[figure].label} ({figure})" if len(found.primaries) > 1 else ""
    if found.factorial is not None:
        tables = [_of_effects(analysis, figure), _of_cells(analysis, figure)]
    elif found.rules.against == ALL_PAIRS:
        tables = [_of_pairs(analysis, figure), _of_means(analysis, figure)]
    else:
        tables = [_of_arms(analysis, figure)]
    if analysis.matched[figure]:
        tables.append(_of_costs(analysis, figure))
    return [attrs.evolve(table, title=": ".join(filter(None, (several, table.title)))) for table in tables]


def _heads(analysis: Analysis, figure: str) -> tuple[str, str]:
    """``mean [95 % CI] (%)``, and what stands over differences behind their name."""
    unit = analysis.units[figure]
    interval = f"[{100 * analysis.findings.confidence:g}{_NBSP}%{_NBSP}CI]"
    mean_in, differences_in = (f" ({short})" if short else "" for short in (unit.unit, "points" if unit.percent else unit.unit))
    return f"mean {interval}{mean_in}", f"{interval}{differences_in}"


def _tested(analysis: Analysis) -> list[str]:
    """What stands over what is said of a claim's test."""
    rules = analysis.findings.rules
    heads = ["p (t-test)", "level", "look"] if rules.looks else ["p (t-test)", "p (sign-flip)"]
    return [*heads, *(["answer"] if rules.margin is not None else [])]


def _test(analysis: Analysis, claim: Claim | None) -> list[str]:
    """The same of one claim; dashes for the control."""
    rules = analysis.findings.rules
    if claim is None:
        return [wording.NONE] * len(_tested(analysis))
    told = wording.look(claim) if rules.looks else list(wording.p_values(claim.comparison))
    return [*told, *([claim.answer] if rules.margin is not None else [])]


def _of_arms(analysis: Analysis, figure: str) -> Table:
    """One row an arm, in the study's order."""
    unit = analysis.units[figure]
    claims = {claim.label: claim for claim in analysis.claims if claim.figure == figure}
    rows: list[list[str]] = []
    for arm in analysis.findings.arms:
        line, claim = analysis.line(arm, figure), claims.get(arm.name)
        compared = [wording.difference(unit, line.comparison), *_test(analysis, claim), *wording.effects(line.comparison)]
        rows.append([arm.name, analysis.counted(arm, figure), wording.mean(unit, line.summary), *compared])
    mean, behind = _heads(analysis, figure)
    return Table(header=["arm", "n", mean, f"difference {behind}", *_tested(analysis), "g_z", "g"], rows=rows, sizes=2)


def _of_pairs(analysis: Analysis, figure: str) -> Table:
    """One row a pair of arms."""
    unit = analysis.units[figure]
    rows = [
        [claim.label, str(claim.comparison.n), wording.difference(unit, claim.comparison), *_test(analysis, claim),
         *wording.effects(claim.comparison)]
        for claim in analysis.claims if claim.figure == figure
    ]  # fmt: skip
    header = ["pair", "seeds", f"difference {_heads(analysis, figure)[1]}", *_tested(analysis), "g_z", "g"]
    return Table(title="All pairs", header=header, rows=rows, sizes=2)


def _of_means(analysis: Analysis, figure: str) -> Table:
    unit = analysis.units[figure]
    arms = analysis.findings.arms
    rows = [[arm.name, analysis.counted(arm, figure), wording.mean(unit, analysis.line(arm, figure).summary)] for arm in arms]
    return Table(title="Arms", header=["arm", "n", _heads(analysis, figure)[0]], rows=rows)


def _of_costs(analysis: Analysis, figure: str) -> Table:
    """One row an arm: validation at the end of its trainings, and at equal cost."""
    unit, readings = analysis.units[figure], analysis.matched[figure]
    mean = _heads(analysis, figure)[0]
    rows = []
    for arm in analysis.findings.arms:
        known = [reading for reading in readings if arm.name in reading.arms]
        ends = wording.mean(unit, known[0].ends[arm.name]) if known else wording.NONE
        rows.append([arm.name, ends, *(wording.mean(unit, r.arms[arm.name]) if r in known else wording.NONE for r in readings)])
    heads = [f"at {telling.budget(reading)}: {mean}" for reading in readings]
    return Table(title="In validation, at equal cost", header=["arm", f"at the end: {mean}", *heads], rows=rows)


def _of_effects(analysis: Analysis, figure: str) -> Table:
    """One row an effect that was asked for."""
    unit = analysis.units[figure]
    rows: list[list[str]] = []
    for claim in analysis.claims:
        if claim.figure == figure:
            means = " → ".join(wording.NONE if mean is None else unit.number(mean) for mean in claim.means)
            tested = [wording.difference(unit, claim.comparison), *_test(analysis, claim), wording.effects(claim.comparison)[0]]
            rows.append([claim.label, str(claim.comparison.n), means, *tested])
    mean, behind = _heads(analysis, figure)
    over = f"means at − and +{mean.rpartition(']')[2]}"
    return Table(title="Effects", header=["effect", "seeds", over, f"effect {behind}", *_tested(analysis), "g_z"], rows=rows, sizes=1)


def _of_cells(analysis: Analysis, figure: str) -> Table:
    """One row a cell: its factors' levels and its mean."""
    found = analysis.findings
    assert found.factorial is not None
    unit = analysis.units[figure]
    rows = [
        [arm.name, *("+" if name in arm.high else "−" for name in found.factorial.factors), analysis.counted(arm, figure),
         wording.mean(unit, analysis.line(arm, figure).summary)]
        for arm in found.arms
    ]  # fmt: skip
    return Table(title="Cells", header=["cell", *found.factorial.factors, "n", _heads(analysis, figure)[0]], rows=rows)


#: Columns of table.csv: figures, differences and their intervals are in the figure's own units (fractions in [0, 1]); empty where there is nothing to say.
LONG = (
    "arm", "figure", "primary", "runs", "n", "mean", "sd", "low", "high", "interval", "confidence", "seeds_in_common", "difference", "difference_sd",
    "difference_low", "difference_high", "difference_low_all", "difference_high_all", "p_t", "p_sign_flip", "p_t_holm", "p_sign_flip_holm", "comparisons",
    "d_z", "g_z", "g", "probability_of_improvement", "sign_flip_cannot_pass", "margin", "p_equivalence_corrected", "p_not_worse_corrected", "answer", "look",
    "level_at_look", "passed", "note",
)  # fmt: skip


def long_csv(analysis: Analysis) -> str:
    """One row an arm and figure, unrounded."""
    return _csv(*long_table(analysis))


def long_table(analysis: Analysis) -> tuple[Sequence[str], list[list[Any]]]:
    """The header and the rows of the same."""
    arms = {arm.name: arm for arm in analysis.findings.arms}
    return LONG, [_long(analysis, line, len(arms[line.arm].runs)) for line in analysis.lines.values()]


def _long(analysis: Analysis, line: Line, runs: int) -> list[Any]:
    own, c, primary = line.summary, line.comparison, line.figure in analysis.findings.primaries
    claim = next((claim for claim in analysis.claims if (claim.label, claim.figure) == (line.arm, line.figure)), None)
    row = [line.arm, line.figure, primary, runs, own.n, own.mean, own.sd, own.low, own.high, own.method, own.confidence]
    if c is None:
        return [*row, *[None] * (len(LONG) - len(row) - 1), own.note]
    corrected = [c.p_t_holm, c.p_permutation_holm, c.family] if primary else [None, None, None]
    together = [c.low_all, c.high_all] if primary else [None, None]
    better = c.improvement if primary else None
    return [
        *row, c.n, c.difference, c.sd, c.low, c.high, *together, c.p_t, c.p_permutation, *corrected, c.d_z, c.g_z, c.g,
        better, wording.cannot_pass(c), *_ruled(claim), "; ".join(dict.fromkeys(filter(None, (own.note, c.note)))),
    ]  # fmt: skip


#: Columns of effects.csv: as in table.csv; the means are those over the cells whose product of levels is −1, and +1.
EFFECTS = (
    "effect", "aliases", "figure", "primary", "seeds", "mean_minus", "mean_plus", "difference", "difference_sd", "difference_low", "difference_high",
    "confidence", "difference_low_all", "difference_high_all", "p_t", "p_sign_flip", "p_t_holm", "p_sign_flip_holm", "effects", "margin",
    "p_equivalence_corrected", "p_not_worse_corrected", "answer", "look", "level_at_look", "passed", "d_z", "g_z", "note",
)  # fmt: skip


def effects_csv(analysis: Analysis) -> str:
    """One row a figure and an effect of a factorial design, unrounded; figures that decide nothing are uncorrected and without p-values."""
    found = analysis.findings
    assert found.factorial is not None
    rows: list[list[Any]] = []
    for figure in analysis.figures:
        primary = figure in found.primaries
        own = [claim for claim in analysis.claims if claim.figure == figure]
        for claim in own if primary else effects(found, figure):
            c = claim.comparison
            assert claim.effect is not None
            tested = [c.low_all, c.high_all, c.p_t, c.p_permutation, c.p_t_holm, c.p_permutation_holm, c.family] if primary else [None] * 7
            rows.append(
                [claim.label, telling.aliased(claim.effect), figure, primary, c.n, *claim.means, c.difference, c.sd, c.low, c.high,
                 c.confidence, *tested, *_ruled(claim), c.d_z, c.g_z, c.note]
            )  # fmt: skip
    return _csv(EFFECTS, rows)


def _ruled(claim: Claim | None) -> list[Any]:
    """What a margin or a sequential plan says of a claim."""
    e, look = (None, None) if claim is None else (claim.equivalence, claim.look)
    margin = [None] * 4 if e is None or claim is None else [e.margin, e.p_corrected, e.p_not_worse_corrected, claim.answer]
    return [*margin, *([None] * 3 if look is None else [look.number + 1, look.level, look.passed])]


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
