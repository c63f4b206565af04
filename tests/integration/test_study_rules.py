"""What takes longer than the suite has: a sequential study that trains and stops, and a thousand studies whose seeds are nested in draws of the data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ibllm_study.statistics import compare
from ibllm_study.statistics.nested import nest
from ibllm_testing.fixtures import run_command

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def test_a_sequential_study_makes_no_run_that_it_does_not_take(tmp_path: Path):
    """It stops at the look that decides, or goes on to the last one; the same command finds nothing more to do."""
    study = tmp_path / "sequential.toml"
    study.write_text(
        f'format = 1\nbase = "{TINY}"\nseeds = 5\nprimary = "novel/scene_exact"\nsequential = {{ looks = [3, 4, 5], spending = "pocock" }}\n'
        '[variants]\n"no cycle" = { "losses.cycle" = false }\n',
        encoding="utf-8",
    )
    done = run_command("ablate", study, "--study-dir", tmp_path / "out", "--jobs", 1)
    assert done.code == 0, done.stderr
    with (tmp_path / "out" / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8", newline="") as file:
        claim = next(row for row in csv.DictReader(file) if row["arm"] == "no cycle" and row["primary"] == "true")
    taken = {3: 6, 4: 8, 5: 10}[{"1": 3, "2": 4, "3": 5}[claim["look"]]]
    assert sum(row["status"] == "done" for row in rows) == taken
    assert claim["passed"] == "true" or claim["look"] == "3"
    again = run_command("ablate", study, "--study-dir", tmp_path / "out", "--jobs", 1)
    assert again.code == 0, again.stderr
    assert "sequential" in (tmp_path / "out" / "study.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_a_mixed_model_keeps_its_level_where_draws_differ(between: float):
    studies, draws, each = 1_000, 6, 2
    rng = np.random.default_rng(8)
    number = {seed: seed % draws for seed in range(draws * each)}
    passes, naive, covered = 0, 0, 0
    for _ in range(studies):
        values = between * rng.normal(size=draws)[[number[seed] for seed in number]] + rng.normal(size=draws * each)
        by_seed = dict(enumerate(values.tolist()))
        first = compare(dict.fromkeys(number, 0.0), by_seed)
        found = nest(first, by_seed, number)
        passes += found.p_t <= 0.05
        naive += first.p_t <= 0.05
        covered += found.low <= 0 <= found.high
    error = 2 * (0.05 * 0.95 / studies) ** 0.5
    assert passes / studies <= 0.05 + error
    assert covered / studies >= 0.95 - error
    if between:
        assert covered / studies <= 0.97
        assert naive / studies > 0.08, "seeds of one draw are no independent evidence of other draws"
