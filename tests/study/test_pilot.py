"""How many seeds a study takes, from a pilot: by resampling, whose power has to be that of real studies."""

from __future__ import annotations

import numpy as np
import pytest
from ibllm_study.foreseen import foreseen
from ibllm_study.plan import make_plan
from ibllm_study.statistics import power
from ibllm_study.statistics.equivalence import tost_power
from ibllm_study.statistics.pilot import resampled_power, seeds_needed
from ibllm_study.study_file import read_study

from ibllm_core.errors import UserError
from tests.study.outputs.conftest import make_study


def test_power_by_resampling_is_that_of_real_studies():
    """Within 3 points, of normal differences and of skewed ones, whose power no formula gives."""
    rng = np.random.default_rng(3)
    for draw in (rng.normal, lambda size: rng.exponential(size=size) - 1):
        pilot = 0.8 + draw(size=10_000)
        real = 0.8 + draw(size=(20_000, 10))
        t = real.mean(axis=1) / (real.std(axis=1, ddof=1) / 10**0.5)
        found = float((abs(t) >= 2.262157).mean())  # Student's quantile, 9 degrees of freedom
        # The pilot's own mean and spread are not quite the truth; what is compared is the same effect in its standard deviations.
        pilot = (pilot - pilot.mean()) / pilot.std(ddof=1) * real.std() + 0.8
        assert resampled_power(pilot.tolist(), 10, 0.05, studies=20_000) == pytest.approx(found, abs=0.03)


def test_the_seeds_needed_are_the_fewest_with_the_power():
    rng = np.random.default_rng(5)
    pilot = rng.normal(size=200)
    pilot = ((pilot - pilot.mean()) / pilot.std(ddof=1) + 1.0).tolist()
    found = seeds_needed(pilot, 0.05)
    assert found.seeds == 10, "as the noncentral t-distribution says: 10 seeds for one sd"
    assert power(9, 1.0) < 0.8 <= power(10, 1.0)
    assert found.low <= found.seeds <= found.high
    same = seeds_needed(pilot, 0.05, margin=1.0)
    assert same.same
    assert tost_power(same.seeds - 2, 1.0) < 0.8 <= tost_power(same.seeds + 1, 1.0)


def test_a_small_pilot_says_how_little_it_knows():
    few = seeds_needed([0.02, 0.05, -0.01, 0.04], 0.05)
    assert few.low < few.seeds < (few.high or 1_000)
    assert seeds_needed([0.001, -0.001, 0.0012, -0.0011], 0.01).seeds is None


def test_a_plan_reads_a_pilot(tmp_path, write_study):
    """The arms are found by name, the claims are the plan's, and seeds that were looked at are told."""
    plan, directory = make_study(tmp_path / "pilot", seeds=6)
    said = foreseen(plan, directory.path, 4)
    assert f"from the pilot {directory.path} (6 seeds)" in said[0]
    assert "over 4 claims" in said[0]
    assert [line.partition(":")[0].strip() for line in said[1:4]] == [
        "no cycle",
        "LSTM text encoder, one layer, as wide as the base's",
        "λ = 0",
    ]
    assert "difference −0.0" in said[1]
    assert "seeds 0, 1, 2, 3, 4, 5 are the pilot's" in said[-1]
    other = make_plan(
        read_study(write_study('[variants]\n"unknown" = { "losses.cycle" = false }\n"no cycle" = { "losses.joint.lambda" = 0.0 }'))
    )
    assert any("not in the pilot: unknown" in line for line in foreseen(other, directory.path, 2))
    with pytest.raises(UserError, match="is no study"):
        foreseen(other, tmp_path, 2)
