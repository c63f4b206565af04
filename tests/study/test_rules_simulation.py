"""Whether what studies say by margins, effects, looks, nested seeds and pilots keeps what it promises, on simulated studies.

As in test_statistics_simulation.py, the generator's seed is fixed. A rate's Monte Carlo error is √(p (1 − p) / studies); false alarms may exceed the level by
two of these.
"""

from __future__ import annotations

import numpy as np
import pytest
from ibllm_study.statistics import compare, holm, power, predict_power
from ibllm_study.statistics.equivalence import answer, equivalence, equivalences, tost_power
from ibllm_study.statistics.factorial import make_design
from ibllm_study.statistics.nested import nest
from ibllm_study.statistics.sequential import SPENDING, decide_all, nominal_levels, simulate, spent
from scipy import special, stats

pytestmark = pytest.mark.slow


def most(level: float, studies: int) -> float:
    """Two standard errors above a level."""
    return level + 2 * (level * (1 - level) / studies) ** 0.5


def seeds_of(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def compared(differences: np.ndarray):  # type: ignore[no-untyped-def]
    """Studies × seeds of paired differences → comparisons; what seeds add to both arms is left out, for it cancels."""
    zero = dict.fromkeys(range(differences.shape[1]), 0.0)
    return [compare(zero, seeds_of(row)) for row in differences]


def test_sameness_is_claimed_at_the_margin_no_more_often_than_the_level_says():
    studies, n, margin = 2_000, 8, 0.8
    rng = np.random.default_rng(1)
    at_margin = [equivalence(c, margin) for c in compared(margin + rng.normal(size=(studies, n)) * 0.5)]
    assert np.mean([found.p <= 0.05 for found in at_margin]) <= most(0.05, studies)
    worse = [equivalence(c, margin) for c in compared(-margin + rng.normal(size=(studies, n)) * 0.5)]
    assert np.mean([found.p_not_worse <= 0.05 for found in worse]) <= most(0.05, studies)
    assert np.mean([found.low <= -margin <= found.high for found in worse]) == pytest.approx(0.9, abs=0.02)


def test_sameness_is_shown_as_often_as_predicted():
    studies, n = 2_000, 8
    rng = np.random.default_rng(2)
    for margin in (0.9, 1.4):
        found = [equivalence(c, margin).p <= 0.05 for c in compared(rng.normal(size=(studies, n)))]
        assert np.mean(found) == pytest.approx(tost_power(n, margin), abs=0.03)


def test_a_wrong_answer_is_rare_over_a_whole_study():
    """Three arms: one without any difference, one at the margin, one far worse. No more than 5 % of studies say something false of any."""
    studies, n, margin = 1_000, 8, 1.0
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(studies):
        found = holm(compared(np.array([[0.0], [margin], [-3.0]]) + rng.normal(size=(3, n))))
        said = [answer(c, e) for c, e in equivalences(found, margin, [True] * 3)]
        wrong += (
            said[0].startswith(("better", "worse"))
            or "margin" in said[1].replace("not worse by the margin", "")
            or said[2].startswith("better")
        )
    assert wrong / studies <= most(0.05, studies)


@pytest.mark.parametrize("fraction", [0, 1])
def test_effects_of_a_factorial_design(fraction: int):
    """Four factors, 8 seeds, one main effect and one interaction: false alarms over the others, coverage, and power, all as said."""
    studies, n = 300 if fraction == 0 else 1_000, 8
    design = make_design(["a", "b", "c", "d"], fraction, order=2)
    signs = np.array([[design.sign(effect, cell) for cell in design.cells] for effect in design.effects], dtype=float)
    # A contrast of N cells with noise sd 1 has sd 2 / √N.
    sd, size = 2 / len(design.cells) ** 0.5, 1.5
    truth = np.zeros(len(design.effects))
    truth[0], truth[-1] = size * sd, -size * sd
    rng = np.random.default_rng(4)
    false, found, covered, together = 0, 0, 0, 0
    for _ in range(studies):
        values = 50 + 2 * rng.normal(size=n) + (truth / 2 @ signs)[:, None] + rng.normal(size=(len(design.cells), n))
        cells = {cell: seeds_of(row) for cell, row in zip(design.cells, values, strict=True)}
        family = holm([design.contrast(effect, cells).comparison for effect in design.effects])
        passes = [c.p_t_holm <= 0.05 for c in family]
        false += any(passes[1:-1])
        found += passes[0]
        covered += sum(c.low <= value <= c.high for c, value in zip(family, truth, strict=True))
        together += all(c.low_all <= value <= c.high_all for c, value in zip(family, truth, strict=True))
    m = len(design.effects)
    assert false / studies <= most(0.05, studies)
    assert 0.93 <= covered / studies / m <= 0.97
    assert together / studies >= 0.95 - 2 * (0.05 * 0.95 / studies) ** 0.5
    # Holm's first step is at level / m, its last at the level.
    assert power(n, size, 0.05 / m) - 0.03 <= found / studies <= power(n, size, 0.05) + 0.03


@pytest.mark.parametrize("spending", SPENDING)
@pytest.mark.parametrize(("looks", "claims"), [((4, 6, 8), 1), ((4, 6, 8), 4), ((3, 4, 5, 6, 7, 8), 2)])
def test_looks_give_no_more_false_alarms_over_the_whole_path(spending: str, looks: tuple[int, ...], claims: int):
    studies = 10_000
    found = simulate(looks, claims, 0.05, spending, effect=1.0, studies=studies)
    assert found.false_alarms <= most(0.05, studies)
    assert found.false_alarms >= 0.04, "nor is the level given away"
    naive = predict_power(looks[-1], claims).detectable_holm
    at_once = simulate(looks, claims, 0.05, spending, effect=naive, studies=studies)
    assert 0.5 <= at_once.power <= 0.85
    assert at_once.seeds < looks[-1]


def test_every_claim_is_tested_as_holms_method_says_at_a_single_look():
    """One look is no sequential study: decisions are Holm's."""
    rng = np.random.default_rng(6)
    t = rng.normal(size=(500, 4, 8)) + np.array([2.0, 1.0, 0.5, 0.0])[:, None]
    p = 2 * special.stdtr(7, -abs(t.mean(-1) / (t.std(-1, ddof=1) / 8**0.5)))
    order = np.sort(p, axis=1) * np.arange(4, 0, -1)
    rejected = (np.minimum.accumulate(order <= 0.05, axis=1)).sum(axis=1)
    assert ((decide_all(p[:, None], (8,), 0.05, "pocock") >= 0).sum(axis=1) == rejected).all()


def test_intervals_at_looks_hold_whenever_a_study_stops():
    """Repeated confidence intervals, of an effect with which many studies stop early."""
    looks, studies, effect = (4, 6, 8), 4_000, 1.2
    levels = nominal_levels(looks, 0.05, "obrien-fleming")
    rng = np.random.default_rng(7)
    draws, covered, open_ = effect + rng.normal(size=(studies, 8)), np.zeros(studies, dtype=bool), np.ones(studies, dtype=bool)
    for number, n in enumerate(looks):
        mean, error = draws[:, :n].mean(1), draws[:, :n].std(1, ddof=1) / n**0.5
        stops = open_ & ((abs(mean / error) >= stats.t.isf(levels[number] / 2, n - 1)) | (number == len(looks) - 1))
        covered[stops] = (abs(mean - effect) <= error * stats.t.isf(levels[number] / 2, n - 1))[stops]
        open_ &= ~stops
    assert not open_.any()
    assert covered.mean() >= 0.95 - 2 * (0.05 * 0.95 / studies) ** 0.5


def test_spending_functions_are_those_of_lan_and_demets():
    """Values of their tables: two-sided 0.05, five equal looks."""
    brien = [spent("obrien-fleming", 0.05, k / 5) for k in range(1, 6)]
    pocock = [spent("pocock", 0.05, k / 5) for k in range(1, 6)]
    assert brien == pytest.approx([1.079e-6, 0.00079, 0.00762, 0.02442, 0.05], rel=0.01)
    assert pocock == pytest.approx([0.01477, 0.02616, 0.03543, 0.04324, 0.05], rel=0.001)


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_seeds_nested_in_draws_are_tested_as_their_draws_means_or_more_strictly(between: float):
    """With as many seeds in every draw. tests/integration has a simulation of the level and of the interval."""
    draws, each, rng = 6, 2, np.random.default_rng(8)
    number = {seed: seed % draws for seed in range(draws * each)}
    equal = 0
    for _ in range(30):
        values = between * rng.normal(size=draws)[[number[seed] for seed in number]] + rng.normal(size=draws * each)
        first = compare(dict.fromkeys(number, 0.0), seeds_of(values))
        found, exact = nest(first, seeds_of(values), number), stats.ttest_1samp(values.reshape(each, draws).mean(axis=0), 0)
        assert found.difference == pytest.approx(values.mean(), abs=1e-6)
        assert found.p_t >= exact.pvalue - 1e-4
        equal += found.p_t == pytest.approx(exact.pvalue, abs=1e-4)
        if found.sd_between_draws > 0.3:
            assert found.p_t == pytest.approx(exact.pvalue, abs=1e-4)
    assert equal > 0
