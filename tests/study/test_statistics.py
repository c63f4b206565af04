"""Means and paired comparisons: against documented examples, closed forms and brute force, and what is said where nothing can be."""

from __future__ import annotations

import itertools
import math
import warnings

import attrs
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ibllm_study.statistics import BOOTSTRAP_FROM, Comparison, compare, holm, signflip, smallest_p, summarise
from scipy import special, stats

#: Cross-fertilised minus self-fertilised maize, in eighths of an inch (Darwin 1876); Fisher (1935, §21) flips its signs, scipy's page on wilcoxon uses it too.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def numbers(result: object) -> list[float]:
    return [value for value in attrs.astuple(result) if isinstance(value, float)]


def of(values) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def differing(differences) -> Comparison:
    return compare(of([0.0] * len(differences)), of(differences))


# Means


def test_t_interval_is_the_written_out_one():
    found = summarise([2.0, 4.0, 4.0, 5.0, 7.0])
    sd = math.sqrt((2.4**2 + 0.4**2 + 0.4**2 + 0.6**2 + 2.6**2) / 4)
    assert (found.n, found.method, found.left_out) == (5, "t", 0)
    assert found.mean == pytest.approx(4.4)
    assert found.sd == pytest.approx(sd)
    assert found.high - found.mean == pytest.approx(
        2.776445105 * sd / math.sqrt(5)
    )  # t of 4 degrees of freedom at 0.975, from a printed table
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_confidence_widens_the_interval():
    values = [2.0, 4.0, 4.0, 5.0, 7.0]
    half = [summarise(values, confidence).high - 4.4 for confidence in (0.9, 0.95, 0.99)]
    assert half == pytest.approx([t * summarise(values).sd / math.sqrt(5) for t in (2.131847, 2.776445, 4.604095)], rel=1e-6)


def test_bootstrap_only_where_n_allows():
    values = np.random.default_rng(0).exponential(size=BOOTSTRAP_FROM).tolist()
    assert summarise(values[:-1]).method == "t"
    found = summarise(values)
    assert found.method == "BCa bootstrap"
    assert found == summarise(values), "the same values give the same interval"


def test_bootstrap_is_efrons():
    """BCa written out (Efron 1987, eq. 6.8 and 7.4) on resamples of its own."""
    values = np.random.default_rng(0).exponential(size=BOOTSTRAP_FROM)
    n, mean = len(values), values.mean()
    drawn = np.random.default_rng(1).choice(values, size=(40_000, n)).mean(axis=1)
    z0 = stats.norm.ppf(np.mean(drawn < mean))
    skew = mean - (n * mean - values) / (n - 1)
    a = np.sum(skew**3) / (6 * np.sum(skew**2) ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(drawn, stats.norm.cdf(z0 + z / (1 - a * z)))
    found = summarise(values)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.05 * values.std() / math.sqrt(n) * 2)
    assert found.high - found.mean > found.mean - found.low, "a long right tail shows"


def test_a_few_values_are_told_as_they_are():
    assert summarise([]) == attrs.evolve(
        summarise([]), n=0, mean=None, sd=None, low=None, high=None, method="", note="no run has the figure"
    )
    one = summarise([0.7])
    assert (one.n, one.mean, one.sd, one.low, one.high, one.note) == (1, 0.7, None, None, None, "one run: no interval")
    same = summarise([0.1 + 0.2, 0.3, 0.3])
    assert (same.sd, same.low, same.high) == (0.0, same.mean, same.mean)
    assert "no width" in same.note


def test_runs_without_the_figure_are_counted_not_dropped_in_silence():
    found = summarise([1.0, None, 2.0, math.nan, 3.0, -math.inf])
    assert (found.n, found.left_out, found.mean) == (3, 3, 2.0)


@pytest.mark.parametrize(
    "values", [[0.0] * 39 + [1.0], [1.0] * 38 + [0.0, 0.0], [1e99] * 39 + [-1e99], [1e-300, 5e-324, 0.0], list(range(1000))]
)
def test_extreme_values_give_numbers(values):
    found = summarise(values)
    assert all(map(math.isfinite, numbers(found)))
    assert found.low <= found.mean <= found.high


# Comparisons


def test_paired_t_test_as_scipy_documents_it(monkeypatch):
    monkeypatch.setattr(signflip, "RESAMPLES", 99)  # of no interest here, and slow with 500 pairs
    np.random.seed(12345678)  # scipy's page on ttest_rel, up to 1.6
    first = stats.norm.rvs(loc=5, scale=10, size=500)
    second = stats.norm.rvs(loc=5, scale=10, size=500) + stats.norm.rvs(scale=0.2, size=500)
    third = stats.norm.rvs(loc=8, scale=10, size=500) + stats.norm.rvs(scale=0.2, size=500)
    assert compare(of(first), of(second)).p_t == pytest.approx(0.80964043445811562, rel=1e-9)
    assert compare(of(first), of(third)).p_t == pytest.approx(7.3082402191726459e-05, rel=1e-9)


def test_darwins_maize_as_fisher_reckoned():
    found = differing(DARWIN)
    assert found.exact
    assert found.p_permutation == 2 * 863 / 2**15  # The Design of Experiments, §21: 863 of 32,768
    assert found.p_t == pytest.approx(0.0497, abs=5e-5)
    assert found.difference == pytest.approx(20.93, abs=5e-3)
    assert found.difference / found.sd * math.sqrt(15) == pytest.approx(2.148, abs=5e-4)


def test_paired_interval_and_effect_sizes_written_out():
    base, other = [0.50, 0.55, 0.61, 0.48], [0.58, 0.57, 0.70, 0.55]
    d = np.subtract(other, base)
    found = compare(of(base), of(other))
    assert found.difference == pytest.approx(d.mean())
    assert found.high == pytest.approx(d.mean() + 3.182446305 * d.std(ddof=1) / 2)  # t of 3 degrees of freedom at 0.975
    assert found.low == pytest.approx(d.mean() - 3.182446305 * d.std(ddof=1) / 2)
    assert found.d_z == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.g_z == pytest.approx(found.d_z * 0.7236, abs=1e-4)  # J(3) = Γ(1.5) / (√1.5 Γ(1)), Hedges 1981, table 1
    assert found.improvement == stats.mannwhitneyu(other, base).statistic / 16


@pytest.mark.parametrize("n", range(2, 11))
def test_sign_flips_by_brute_force(n: int):
    differences = np.round(np.random.default_rng(n).normal(0.5, 1, size=n), 1)  # rounded, for ties
    whole = np.rint(10 * differences).astype(int)
    extreme = [abs(np.dot(signs, whole)) >= abs(whole.sum()) for signs in itertools.product((-1, 1), repeat=n)]
    assert differing(differences).p_permutation == np.mean(extreme)


@pytest.mark.parametrize("n", [6, 9, 24])
def test_sign_flips_are_scipys(n: int):
    differences = np.random.default_rng(n).normal(0.3, 1, size=n)
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf if n < 10 else 19_999, rng=np.random.default_rng(5)
    )
    found = differing(differences)
    assert found.exact == (n < 10)
    assert found.p_permutation == pytest.approx(test.pvalue, abs=1e-15 if n < 10 else 0.01)
    assert found == differing(differences), "random flips are the same each time"


def test_fractions_that_tie_on_paper_tie():
    """0.1 + 0.2 − 0.3 is not zero in floating point; sums of such differences must still count as equal."""
    base, other = [0.3, 0.6, 0.3, 0.3, 0.9, 0.3], [0.4, 0.7, 0.2, 0.4, 1.0, 0.2]
    whole = [1, 1, -1, 1, 1, -1]
    expected = np.mean([abs(np.dot(signs, whole)) >= 2 for signs in itertools.product((-1, 1), repeat=6)])
    assert compare(of(base), of(other)).p_permutation == expected


def test_seeds_are_paired_by_name_and_the_missing_are_named():
    base = {3: 1.0, 1: 2.0, 2: 3.0, 4: math.nan, 7: 1.0}
    other = {1: 2.5, 2: 3.0, 3: 1.75, 5: 9.0, 7: None}
    found = compare(base, other)
    assert (found.seeds, found.n) == ((1, 2, 3), 3)
    assert (found.missing_base, found.missing_other) == ((4, 5), (4, 7))
    assert found.difference == pytest.approx((0.5 + 0.0 + 0.75) / 3)
    assert found.p_t == pytest.approx(stats.ttest_1samp([0.5, 0.0, 0.75], 0).pvalue)


def test_improvement_counts_all_pairs_and_knows_the_direction():
    base, other = of([1, 2, 3, 4]), of([2, 3, 4, 5])
    assert compare(base, other).improvement == (1.5 + 2.5 + 3.5 + 4) / 16
    assert compare(base, other, higher_is_better=False).improvement == pytest.approx(1 - compare(base, other).improvement)


def test_what_cannot_be_compared_is_said():
    nothing = compare({}, {1: 2.0})
    assert nothing.note == "no seed has the figure on both sides"
    assert numbers(nothing) == [0.95]
    one = compare({1: 1.0}, {1: 2.0, 2: 5.0})
    assert (one.difference, one.low, one.p_t, one.p_permutation, one.d_z, one.improvement) == (1.0, None, None, None, None, None)
    assert "nothing to judge it by" in one.note
    assert one.too_few
    same = compare(of([0.1, 0.2, 0.3]), of([0.1, 0.2, 0.3]))
    assert (same.difference, same.low, same.high, same.p_t, same.p_permutation, same.d_z) == (0.0, 0.0, 0.0, None, 1.0, None)
    assert same.note == "no seed differs"
    shifted = compare(of([0.1, 0.2, 0.3]), of([0.2, 0.3, 0.4]))
    assert (shifted.sd, shifted.p_t, shifted.g_z, shifted.p_permutation) == (0.0, None, None, 0.25)
    assert shifted.difference == shifted.low == shifted.high == pytest.approx(0.1)
    assert "no variation" in shifted.note
    two = differing([1.0, 2.0])
    assert two.d_z is not None
    assert two.g_z is None


def test_five_seeds_cannot_pass_a_sign_flip_test():
    found = differing([1.0, 1.1, 0.9, 1.05, 0.95])
    assert found.p_t < 1e-4
    assert found.p_permutation == smallest_p(5) == 0.0625
    assert found.too_few
    assert "the sign-flip test cannot pass" in found.note
    assert "0.0625" in found.note
    six = differing([1.0, 1.1, 0.9, 1.05, 0.95, 1.0])
    assert (six.p_permutation, six.too_few, six.note) == (0.03125, False, "")
    assert compare(of([0.0] * 5), of([1.0, 1.1, 0.9, 1.05, 0.95]), confidence=0.9).note == ""


VALUES = st.lists(
    st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)).map(lambda pair: (pair[0] / 1000, pair[1] / 1000)),
    min_size=2,
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_exchanging_the_sides_turns_every_sign(pairs):
    base, other = of([b for b, _ in pairs]), of([o for _, o in pairs])
    there, back = compare(base, other), compare(other, base)
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert there.p_permutation == back.p_permutation
    assert there.improvement == pytest.approx(1 - back.improvement)
    assert there.note == back.note
    if there.p_t is not None:
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
        assert there.p_t == pytest.approx(back.p_t)
        assert there.d_z == pytest.approx(-back.d_z, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(-1000, 1000), st.sampled_from([0.01, 3.0, 1024.0]))
def test_shifting_both_sides_changes_nothing_and_scaling_scales(pairs, shift, scale):
    plain = compare(of([b for b, _ in pairs]), of([o for _, o in pairs]))
    moved = compare(of([(b + shift) * scale for b, _ in pairs]), of([(o + shift) * scale for _, o in pairs]))
    assert moved.difference == pytest.approx(plain.difference * scale, abs=1e-6 * scale)
    assert moved.p_permutation == plain.p_permutation
    assert moved.improvement == plain.improvement
    assume(plain.p_t is not None)
    assert (moved.sd, moved.low, moved.high) == pytest.approx(
        (plain.sd * scale, plain.low * scale, plain.high * scale), rel=1e-6, abs=1e-6 * scale
    )
    assert moved.p_t == pytest.approx(plain.p_t, rel=1e-5)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.integers(0, 8), st.none() | st.floats()), st.dictionaries(st.integers(0, 8), st.none() | st.floats()))
def test_no_figures_whatever_give_nan_or_a_warning(base, other):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, summary = compare(base, other), summarise(base.values())
    for result in (found, summary):
        assert all(map(math.isfinite, numbers(result)))
        assert all(0 <= p <= 1 for p in (result.p_t, result.p_permutation) if p is not None) if isinstance(result, Comparison) else True


# Holm


def with_p(*ps: float) -> list[Comparison]:
    return [Comparison(seeds=tuple(range(8)), p_t=p, p_permutation=p, sd=1.0) for p in ps]


def test_holm_written_out():
    """Sorted p are multiplied by m, m − 1, … and never fall (Holm 1979): 0.005 × 4, 0.01 × 3, 0.03 × 2, then 0.04 × 1 raised to 0.06."""
    found = holm(with_p(0.01, 0.04, 0.03, 0.005))
    assert [c.p_t_holm for c in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [c.p_permutation_holm for c in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [c.p_t for c in found] == [0.01, 0.04, 0.03, 0.005]
    assert {c.family for c in found} == {4}


def test_arms_that_failed_do_not_make_the_others_look_better():
    first, lone, second = holm([with_p(0.01)[0], compare({1: 1.0}, {1: 2.0}), with_p(0.02)[0]])
    assert (first.p_t_holm, second.p_t_holm) == pytest.approx((0.03, 0.04))
    assert (lone.p_t_holm, lone.p_permutation_holm, lone.family) == (None, None, 3)
    assert holm([]) == ()


def test_g_is_that_of_independent_groups():
    """Hedges (1981): the difference in pooled standard deviations, times J(m) = Γ(m/2) / (√(m/2) Γ((m − 1)/2)) at m = 2n − 2."""
    base, other = [0.7, 0.74, 0.69, 0.73, 0.7, 0.72], [0.74, 0.75, 0.73, 0.76, 0.74, 0.73]
    found = compare(of(base), of(other))
    m = 2 * len(base) - 2
    factor = special.gamma(m / 2) / (math.sqrt(m / 2) * special.gamma((m - 1) / 2))
    pooled = math.sqrt((np.var(base, ddof=1) + np.var(other, ddof=1)) / 2)
    assert found.g == pytest.approx(factor * (np.mean(other) - np.mean(base)) / pooled, rel=1e-12)
    assert abs(found.g) < abs(found.g_z)
    assert compare(of([0.5, 0.5, 0.5]), of([0.6, 0.6, 0.6])).g is None


def test_simultaneous_intervals_are_as_wide_as_bonferronis():
    single = compare(of([0.7, 0.74, 0.69, 0.73, 0.7]), of([0.74, 0.75, 0.73, 0.76, 0.74]))
    assert (single.low_all, single.high_all) == (single.low, single.high)
    for found in holm([single, single, differing([0.5] * 5)]):
        if found.sd:
            low, high = stats.t.interval(1 - 0.05 / 3, 4, loc=found.difference, scale=found.sd / math.sqrt(5))
            assert (found.low_all, found.high_all) == pytest.approx((low, high), rel=1e-9)
            assert (found.low, found.high) == (single.low, single.high)
        else:
            assert found.low_all == found.high_all == found.difference


def test_differences_that_do_not_vary_stay_in_the_family():
    found = holm([*with_p(0.01), differing([0.5] * 8)])
    assert found[0].p_t_holm == pytest.approx(0.02)
    assert found[1].p_t_holm is None
    assert found[1].p_permutation_holm == pytest.approx(2 * 2**-7)
    assert "no variation" in found[1].note


def test_too_few_seeds_for_the_whole_family_is_said():
    found = holm(with_p(*[0.001] * 7))
    assert all(c.too_few for c in found)
    assert found[0].smallest_p == 7 * 2**-7
    assert "after Holm's correction over 7 comparisons" in found[0].note
    assert not any(c.too_few or c.note for c in holm(with_p(*[0.001] * 6)))
