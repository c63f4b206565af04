"""What seeds could show, told beforehand; and figures over large designs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibllm_study.statistics import (
    BOOTSTRAP_FROM,
    compare,
    interquartile_mean,
    is_large,
    power,
    predict_power,
    probability_of_improvement,
    smallest_p,
)
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

# Power


def test_power_as_statsmodels_documents_it():
    """The round trip in the head of statsmodels.stats.power: 33.367204205 observations, effect 0.5, level 0.05, power 0.8."""
    assert power(33, 0.5) < 0.8 < power(34, 0.5)
    assert power(33, 0.5) == pytest.approx(TTestPower().power(0.5, 33, 0.05), abs=1e-9)
    assert TTestPower().solve_power(effect_size=0.5, power=0.8, alpha=0.05) == pytest.approx(33.367204205, abs=1e-3)


@pytest.mark.parametrize(("n", "d", "alpha"), list(itertools.product((2, 3, 5, 8, 20), (0.0, 0.2, 1.0, 1.5), (0.05, 0.01))))
def test_power_is_statsmodels_where_that_gives_a_number(n: int, d: float, alpha: float):
    assert power(n, d, alpha) == pytest.approx(TTestPower().power(d, n, alpha), abs=1e-8)


@pytest.mark.parametrize(("n", "d"), [(2, 30.0), (3, 10.0), (5, 2.0)])
def test_power_by_integration(n: int, d: float):
    """P(|Z + d √n| > t S) over the distribution of the sample's S, also where statsmodels gives nan."""
    critical, shift = stats.t.isf(0.0005, n - 1), d * math.sqrt(n)

    def at(s: float) -> float:
        beyond = stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)
        return beyond * stats.chi.pdf(s * math.sqrt(n - 1), n - 1) * math.sqrt(n - 1)

    assert power(n, d, 0.001) == pytest.approx(
        integrate.quad(at, 0, (shift + 40) / critical, points=[shift / critical], limit=500)[0], abs=1e-7
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 40), st.sampled_from([0.5, 0.8, 0.99]))
def test_the_detectable_difference_has_the_power_it_was_asked_for(seeds: int, comparisons: int, target: float):
    found = predict_power(seeds, comparisons, power=target)
    for d, alpha in ((found.detectable, 0.05), (found.detectable_holm, 0.05 / comparisons)):
        assert (power(seeds, d, alpha) == pytest.approx(target, abs=1e-6)) if d is not None else power(seeds, 1_000.0, alpha) < target
    for n, alpha in ((found.seeds_for_one_sd, 0.05), (found.seeds_for_one_sd_holm, 0.05 / comparisons)):
        assert power(n, 1.0, alpha) >= target
        assert n == 2 or power(n - 1, 1.0, alpha) < target


# PowerPrediction


@pytest.mark.parametrize("n", range(2, 13))
def test_the_smallest_p_is_what_the_test_gives_at_best(n: int):
    found = compare(dict.fromkeys(range(n), 0.0), {seed: 1.0 + seed / 100 for seed in range(n)})
    assert found.p_permutation == smallest_p(n) == 2 ** (1 - n)


def test_beyond_the_exact_test_too():
    found = compare(dict.fromkeys(range(25), 0.0), {seed: 1.0 + seed / 100 for seed in range(25)})
    assert (found.p_permutation, found.exact) == (smallest_p(25), False)


def test_five_seeds_are_told_that_they_cannot():
    found = predict_power(5, 1)
    assert (found.smallest_p, found.seeds_needed) == (0.0625, 6)
    assert found.detectable == pytest.approx(1.682, abs=1e-3)
    text = " ".join(found.sentences())
    assert "5 seeds can show is 0.0625: no difference, however large, can pass 0.05. At least 6 seeds can." in text
    assert "1.68 sd" in text
    assert "Holm" not in text


def test_holms_correction_is_foreseen():
    found = predict_power(7, 4)
    assert (found.smallest_p_holm, found.seeds_needed, found.seeds_needed_holm) == (0.0625, 6, 8)
    assert "one comparison by itself could pass 0.05, none can after the correction" in found.sentences()[0]
    enough = predict_power(8, 4)
    assert enough.smallest_p_holm == 4 / 2**7
    assert enough.sentences()[0].endswith("a difference can pass 0.05.")
    assert enough.detectable_holm > enough.detectable


def test_a_known_spread_gives_the_figures_units():
    found = predict_power(8, 4, sd=0.02)
    assert found.difference == pytest.approx(0.02 * found.detectable)
    assert f"({found.difference:.3g} in the figure's units)" in found.sentences()[1]
    assert predict_power(8, 4).difference is None
    assert predict_power(8, 4, sd=0.0).sd is None, "runs that agree to the last digit tell no spread"


@pytest.mark.parametrize(
    ("seeds", "comparisons", "confidence"), [(0, 0, 0.95), (0, 3, 0.95), (1, 1, 0.95), (2, 500, 0.999), (5, 10**6, 0.99999), (300, 9, 0.6)]
)
def test_any_design_is_told_in_sentences(seeds: int, comparisons: int, confidence: float):
    text = " ".join(predict_power(seeds, comparisons, confidence).sentences())
    assert text.endswith(".")
    assert "nan" not in text
    assert "None" not in text


def test_one_seed_is_told_that_it_shows_nothing():
    assert predict_power(1, 1).sentences()[0] == "Fewer than two seeds: there is no telling a difference from luck. At least 6 seeds can."
    assert predict_power(1, 1).detectable is None


# Large designs


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    assert interquartile_mean([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 700.0]]).value == (2 + 3 + 4 + 5) / 4
    table = np.random.default_rng(0).normal(size=(9, 5))
    assert interquartile_mean(table.tolist()).value == pytest.approx(stats.trim_mean(table, 0.25, axis=None))


def test_intervals_are_shown_where_the_design_is_large():
    table = np.random.default_rng(0).normal(size=(BOOTSTRAP_FROM, 3)).tolist()
    large, small = interquartile_mean(table), interquartile_mean(table[1:])
    assert is_large(BOOTSTRAP_FROM)
    assert not is_large(BOOTSTRAP_FROM - 1)
    assert large.low < large.value < large.high
    assert (small.low, small.high, small.runs, small.figures) == (None, None, BOOTSTRAP_FROM - 1, 3)
    assert "fewer than" in small.note
    assert interquartile_mean(table, confidence=0.5).high < large.high


def test_runs_that_lack_a_figure_are_counted():
    found = interquartile_mean([[1.0, 2.0], [3.0, None], [math.nan, 3.0], [5.0, 6.0]])
    assert (found.runs, found.left_out) == (2, 2)
    empty = interquartile_mean([[None, 1.0]])
    assert (empty.value, empty.left_out, empty.note) == (None, 1, "no run has all figures")
    assert probability_of_improvement([], []).value is None


def test_probability_of_improvement_is_mann_and_whitneys_over_figures():
    rng = np.random.default_rng(0)
    base, other = rng.normal(size=(BOOTSTRAP_FROM, 3)), rng.normal(0.5, 1, size=(BOOTSTRAP_FROM, 3))
    found = probability_of_improvement(base.tolist(), other.tolist())
    expected = [stats.mannwhitneyu(o, b).statistic / BOOTSTRAP_FROM**2 for b, o in zip(base.T, other.T, strict=True)]
    assert found.value == pytest.approx(np.mean(expected))
    assert 0.5 < found.low < found.value < found.high < 1
    assert probability_of_improvement(base.tolist(), other.tolist(), higher_is_better=False).value == pytest.approx(1 - found.value)


def test_probability_of_improvement_leaves_out_whole_seeds():
    found = probability_of_improvement([[1.0], [2.0], [None]], [[3.0], [math.inf], [9.0]])
    assert (found.value, found.runs, found.left_out) == (1.0, 1, 2)
