"""Several figures at once over many runs: interquartile mean and probability of improvement (Agarwal et al. 2021). Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .paired import improvement
from .samples import BOOTSTRAP_FROM, number

__all__ = ["Aggregate", "interquartile_mean", "is_large", "probability_of_improvement"]

_RESAMPLES, _BATCH = 2_000, 20

Matrix = Sequence[Sequence[float | None]]


@attrs.frozen(kw_only=True)
class Aggregate:
    """One number for a whole table of runs × figures.

    Attributes:
        value: None where no run has all figures.
        low, high: its interval; None below `BOOTSTRAP_FROM` runs.
        runs, figures: the size of the table; for a comparison, runs a side.
        left_out: runs that lack a figure.
        confidence: of the interval, in (0, 1).
        note: why something is None; empty otherwise.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 0
    figures: int = 0
    left_out: int = 0
    confidence: float = 0.95
    note: str = ""


def is_large(runs: int) -> bool:
    """Whether a design is large enough to show these with intervals: `BOOTSTRAP_FROM` runs, where a bootstrap covers what it says."""
    return runs >= BOOTSTRAP_FROM


def interquartile_mean(matrix: Matrix, confidence: float = 0.95) -> Aggregate:
    """Mean of the middle half of all cells: less at the mercy of a few bad runs than the mean, of more runs' say than the median (Agarwal et al. 2021, §4.3).

    The interval is a percentile bootstrap over whole runs. Agarwal et al. draw each task's runs apart (stratified), as theirs are separate runs; figures of
    one run go up and down together, and drawn apart they give too narrow an interval: with a correlation of 0.5 among 10 figures, 95 % intervals over
    40 simulated runs covered 70 %, over whole runs 94 %.

    Args:
        matrix: runs × figures, all on one scale and better in the same direction; a run that lacks one is left out.
        confidence: of the interval, in (0, 1).
    """
    from scipy import stats

    rows = [row for row in matrix if _complete(row)]
    said = Aggregate(confidence=confidence, left_out=len(matrix) - len(rows))
    return _aggregate(said, [rows], lambda tables: stats.trim_mean(tables.reshape(len(tables), -1), 0.25, axis=1))


def probability_of_improvement(base: Matrix, other: Matrix, confidence: float = 0.95, *, higher_is_better: bool = True) -> Aggregate:
    """P(other better than base), the mean over figures (Agarwal et al. 2021, §4.3), with a percentile bootstrap over seeds, both sides drawn together.

    Args:
        base, other: seeds × figures, row by row the same seed; a seed that lacks a figure on either side is left out.
        confidence: of the interval, in (0, 1).
        higher_is_better: of every figure.
    """
    pairs = [(b, o) for b, o in zip(base, other, strict=True) if _complete((*b, *o))]
    said = Aggregate(confidence=confidence, left_out=len(base) - len(pairs))
    sides = [[b for b, _ in pairs], [o for _, o in pairs]]
    return _aggregate(said, sides, lambda left, right: improvement(left, right, higher_is_better).mean(axis=-1))


def _complete(row: Sequence[float | None]) -> bool:
    return all(number(value) is not None for value in row)


def _aggregate(said: Aggregate, sides: Sequence[Matrix], statistic: Callable[..., Any]) -> Aggregate:
    """The statistic (resamples runs figures → resamples) of one or two tables, with an interval over their rows where there are enough."""
    import numpy as np

    runs = len(sides[0])
    if not runs or not sides[0][0]:
        return attrs.evolve(said, note="no run has all figures")
    tables = [np.asarray(side, dtype=float) for side in sides]
    value = float(statistic(*(table[None] for table in tables))[0])
    said = attrs.evolve(said, value=value, runs=runs, figures=tables[0].shape[1])
    if not is_large(runs):
        return attrs.evolve(said, note=f"fewer than {BOOTSTRAP_FROM} runs: no interval")
    drawn = np.random.default_rng(0).integers(runs, size=(_RESAMPLES // _BATCH, _BATCH, runs))
    values = np.concatenate([statistic(*(table[rows] for table in tables)) for rows in drawn])
    tail = (1 - said.confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return attrs.evolve(said, low=float(low), high=float(high))
