"""How long the statistics of studies take: 10,000 studies of 8 seeds × 6 arms in at most 60 s on two cores."""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
from ibllm_study.statistics import compare, holm, summarise

STUDIES, ARMS, SEEDS, CORES, SECONDS = 10_000, 6, 8, 2, 60.0


def analyse(seed: int, studies: int) -> int:
    """As many studies, each with means, comparisons with the base, and Holm's correction; how many found something."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(studies):
        arms = [dict(enumerate(row)) for row in rng.normal(size=(ARMS, SEEDS)).tolist()]
        for arm in arms:
            summarise(arm.values())
        found += any((claim.p_t_holm or 1.0) <= 0.05 for claim in holm([compare(arms[0], arm) for arm in arms[1:]]))
    return found


def test_ten_thousand_studies(record_property):  # type: ignore[no-untyped-def]
    before = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        found = sum(pool.starmap(analyse, [(core, STUDIES // CORES) for core in range(CORES)]))
    seconds = time.perf_counter() - before
    record_property("seconds", seconds)
    print(f"{STUDIES:,} studies of {SEEDS} seeds × {ARMS} arms: {seconds:.0f} s on {CORES} cores")
    assert found / STUDIES <= 0.05 + 2 * (0.05 * 0.95 / STUDIES) ** 0.5
    assert seconds <= SECONDS
