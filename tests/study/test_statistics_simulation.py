"""Whether the statistics keep what they promise, on simulated studies: false alarms, coverage, power. Everything runs through the public functions.

The generator's seed is 0 throughout. The Monte Carlo error of a 5 % rate is 0.3 points over 4,000 studies, 0.5 over 2,000, 0.7 over 1,000.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
import statsmodels.stats.multitest  # noqa: F401  # before the garbage collector is told to leave alone what is there
from ibllm_study.statistics import BOOTSTRAP_FROM, compare, holm, interquartile_mean, power, predict_power, summarise

pytestmark = pytest.mark.slow

#: Standard deviation of what a seed adds to all its runs, and of the rest. Differences between arms have sd √2 · NOISE.
SEED_EFFECT, NOISE = 2.0, 1.0
SD = NOISE * 2**0.5


@pytest.fixture(autouse=True, scope="module")
def _cheap_collections():
    """statsmodels' Holm collects garbage at every call; what was there before is left out of it."""
    gc.freeze()
    yield
    gc.unfreeze()


def studies(count: int, n: int, effects: list[float]):
    """Studies of a base and one arm per effect (in sd of differences), n seeds each, as seed → figure."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        runs = 50 + SEED_EFFECT * rng.normal(size=n) + NOISE * rng.normal(size=(1 + len(effects), n))
        runs[1:] += SD * np.array(effects)[:, None]
        base, *arms = ({seed: float(value) for seed, value in enumerate(row)} for row in runs)
        yield base, arms


def compared(count: int, n: int, effect: float):
    return [compare(base, arm) for base, (arm,) in studies(count, n, [effect])]


def share(hits) -> float:
    return float(np.mean(list(hits)))


@pytest.mark.parametrize(("n", "count"), [(5, 2_000), (8, 4_000), (12, 2_000)])
def test_without_an_effect_there_are_few_false_alarms(n: int, count: int):
    found = compared(count, n, 0.0)
    assert share(c.p_t <= 0.05 for c in found) <= 0.055
    assert share(c.p_permutation <= 0.05 for c in found) <= 0.055
    assert 0.93 <= share(c.low <= 0 <= c.high for c in found) <= 0.97


@pytest.mark.parametrize(("n", "count"), [(5, 1_000), (8, 2_000), (12, 1_000)])
def test_an_effect_is_covered_and_found_as_often_as_predicted(n: int, count: int):
    effect = predict_power(n, 1).detectable
    found = compared(count, n, effect)
    assert 0.93 <= share(c.low <= effect * SD <= c.high for c in found) <= 0.97
    assert share(c.p_t <= 0.05 for c in found) == pytest.approx(power(n, effect), abs=0.03)
    assert power(n, effect) == pytest.approx(0.8, abs=1e-9)
    d, g = np.array([(c.d_z, c.g_z) for c in found]).T
    assert g.mean() == pytest.approx(effect, abs=3 * g.std() / count**0.5), "the corrected effect size is not biased"
    assert d.mean() > effect + 3 * d.std() / count**0.5, "the uncorrected one is"


def test_holm_bounds_false_alarms_of_a_whole_study():
    found = [holm([compare(base, arm) for arm in arms]) for base, arms in studies(2_000, 8, [0.0, 0.0, 0.0])]
    assert share(any(c.p_t_holm <= 0.05 for c in family) for family in found) <= 0.055
    assert share(any(c.p_permutation_holm <= 0.05 for c in family) for family in found) <= 0.055
    assert share(any(c.p_t <= 0.05 for c in family) for family in found) > 0.09, "uncorrected, a study of three arms cries wolf"


def test_holm_finds_a_foreseen_effect_beside_two_arms_without():
    effect = predict_power(8, 3).detectable_holm
    found = [holm([compare(base, arm) for arm in arms]) for base, arms in studies(1_000, 8, [effect, 0.0, 0.0])]
    assert share(c[0].p_t_holm <= 0.05 for c in found) == pytest.approx(0.8, abs=0.03)
    assert share(any(c.p_t_holm <= 0.05 for c in family[1:]) for family in found) <= 0.055


@pytest.mark.parametrize(("n", "count"), [(3, 1_000), (8, 1_000), (BOOTSTRAP_FROM, 1_000)])
def test_intervals_of_means_cover(n: int, count: int):
    found = [summarise(base.values()) for base, _ in studies(count, n, [])]
    assert {s.method for s in found} == {"t" if n < BOOTSTRAP_FROM else "BCa bootstrap"}
    assert 0.93 <= share(s.low <= 50 <= s.high for s in found) <= 0.97


def test_pairing_by_seed_pays():
    paired, loose = [], []
    for base, (arm,) in studies(1_000, 8, [1.16]):
        paired.append(compare(base, arm).p_t <= 0.05)
        shifted = {seed: arm[(seed + 1) % 8] for seed in arm}
        loose.append(compare(base, shifted).p_t <= 0.05)
    assert share(paired) > 0.75
    assert share(loose) < 0.35


def test_interquartile_mean_of_correlated_figures_is_covered():
    rng, covered = np.random.default_rng(0), []
    for _ in range(150):
        runs = 0.5 + 0.1 * rng.normal(size=(BOOTSTRAP_FROM, 1)) + 0.1 * rng.normal(size=(BOOTSTRAP_FROM, 4))
        found = interquartile_mean(runs.tolist())
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.9 <= share(covered) <= 0.99  # 150 studies: an error of 1.8 points
