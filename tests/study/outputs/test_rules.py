"""A study that decides by other rules: a margin, several figures, another control, all pairs, nested seeds, looks before the end."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ibllm_study.findings import from_plan
from ibllm_study.outputs import write_outputs
from ibllm_study.saved import from_directory
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

TINY = Path(__file__).parents[2] / "training" / "tiny.toml"
PRIMARY, OTHER = "novel/scene_exact", "test/scene_exact"
STUDY = f"""\
format = 1
base = "{TINY}"
seeds = SEEDS
primary = "{PRIMARY}"
RULES
[variants]
"no cycle" = {{ "losses.cycle" = false }}
"λ = 0" = {{ "losses.joint.lambda" = 0.0 }}
"long" = {{ "stages.joint.steps" = 12 }}
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(make, folder: Path, rules: str, seeds: int = 8, text: str = STUDY, **more):  # type: ignore[no-untyped-def]
    """What is printed, the folder, and (arm, seed) → the primary figure."""
    plan, directory = make(folder, seeds=seeds, text=text.replace("RULES", rules), **more)
    printed = "\n".join(write_outputs(plan, directory))
    value = {(row["arm"], int(row["seed"])): float(row[PRIMARY]) for row in rows(directory / "runs.csv") if row["status"] == "done"}
    return printed, directory.path, value


def differences(value, arm: str, control: str = "base", seeds: int = 8) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.array([value[arm, seed] - value[control, seed] for seed in range(seeds)])


def test_a_margin_gives_answers(make, tmp_path):
    """The same p-values as statsmodels' two one-sided tests, and words for what passes."""
    printed, folder, value = written(make, tmp_path, "margin = 0.02")
    table = {row["arm"]: row for row in rows(folder / "table.csv") if row["figure"] == PRIMARY and row["arm"] != "base"}
    by_hand = [DescrStatsW(differences(value, arm)).ttost_mean(-0.02, 0.02)[0] for arm in table]
    # No arm has both a difference and sameness here, so there are three arms of which something may be true.
    assert [float(row["p_equivalence_corrected"]) for row in table.values()] == pytest.approx([min(1.0, 3 * p) for p in by_hand], rel=1e-9)
    not_worse = [stats.ttest_1samp(differences(value, arm), -0.02, alternative="greater").pvalue for arm in table]
    assert [float(row["p_not_worse_corrected"]) for row in table.values()] == pytest.approx([min(1.0, 3 * p) for p in not_worse], rel=1e-9)
    assert [float(row["p_t_holm"]) for row in table.values()] == pytest.approx([min(1.0, 3 * float(row["p_t"])) for row in table.values()])
    answers = {arm: row["answer"] for arm, row in table.items()}
    assert answers["no cycle"] == "worse"
    assert answers["long"] == "the same within the margin"
    source = (folder / "table.md").read_text(encoding="utf-8")
    for said in (printed, source, (folder / "study.html").read_text(encoding="utf-8")):
        assert "The same within the margin: “long”" in said
        assert "answer" in said


def test_several_figures_are_corrected_together(make, tmp_path):
    _, folder, _ = written(make, tmp_path, "", text=STUDY.replace(f'primary = "{PRIMARY}"', f'primary = ["{PRIMARY}", "{OTHER}"]'))
    table = [row for row in rows(folder / "table.csv") if row["figure"] in (PRIMARY, OTHER) and row["arm"] != "base"]
    assert len(table) == 6
    corrected = multipletests([float(row["p_t"]) for row in table], method="holm")[1]
    assert [float(row["p_t_holm"]) for row in table] == pytest.approx(list(corrected), rel=1e-9)
    source = (folder / "table.md").read_text(encoding="utf-8").replace("\\", "")
    assert f"({PRIMARY})\n" in source
    assert f"({OTHER})\n" in source
    assert "over the 6 comparisons of the 2 primary figures" in source
    assert "“no cycle, test/scene_exact”" in source


def test_another_control(make, tmp_path):
    _, folder, value = written(make, tmp_path, 'against = "no cycle"')
    table = {row["arm"]: row for row in rows(folder / "table.csv") if row["figure"] == PRIMARY}
    assert table["no cycle"]["difference"] == ""
    assert float(table["base"]["difference"]) == pytest.approx(differences(value, "base", "no cycle").mean())
    assert "Differences are to “no cycle”" in (folder / "table.md").read_text(encoding="utf-8")


def test_all_pairs(make, tmp_path):
    printed, folder, value = written(make, tmp_path, 'against = "all pairs"')
    source = (folder / "table.md").read_text(encoding="utf-8").replace("\\", "")
    assert source.count("\n| ") >= 6
    assert "over the 6 comparisons" in source
    low_high = stats.t.interval(
        1 - 0.05 / 6, 7, differences(value, "long", "no cycle").mean(), stats.sem(differences(value, "long", "no cycle"))
    )
    line = next(line for line in source.splitlines() if line.startswith("| long − no cycle"))
    assert f"[{100 * low_high[0]:+.1f}, {100 * low_high[1]:+.1f}]".replace("-", "−") in line
    assert "long − λ = 0" in printed


@pytest.mark.parametrize("rules", ["margin = 0.02", 'against = "no cycle"', "draws = 4", "sequential = { looks = [4, 8] }"])
def test_a_directory_alone_says_by_what_rules_its_study_decides(make, tmp_path, rules: str):
    """From plan.json: ``study.toml`` and the base recipe are not looked at."""
    every = frozenset((arm, seed) for arm in ("base", "no cycle", "λ = 0", "long") for seed in range(8))
    plan, directory = make(tmp_path, text=STUDY.replace("RULES", rules), without=every)
    assert from_directory(directory.path).rules == from_plan(plan, directory).rules


def test_seeds_that_are_nested_in_draws_of_the_data(make, tmp_path):
    """With as many seeds in every draw and draws that differ, the mixed model's test is the t-test of the draws' means."""
    _, folder, value = written(make, tmp_path, "draws = 4", seeds=12)
    found = {row["arm"]: row for row in rows(folder / "table.csv") if row["figure"] == PRIMARY}
    by_seed = differences(value, "no cycle", seeds=12)
    means = by_seed.reshape(3, 4).mean(axis=0)
    row = found["no cycle"]
    assert float(row["difference"]) == pytest.approx(by_seed.mean(), rel=1e-6)
    assert float(row["p_t"]) >= stats.ttest_1samp(means, 0).pvalue - 1e-6
    assert "Seeds are nested in 4 draws" in (folder / "table.md").read_text(encoding="utf-8")


def test_looks_before_the_end(make, tmp_path):
    """An arm that was decided at a look is told by that look; one whose later runs are not there yet goes on."""
    without = frozenset((arm, seed) for arm in ("base", "no cycle", "λ = 0", "long") for seed in (6, 7))
    printed, folder, value = written(make, tmp_path, "sequential = { looks = [4, 6, 8] }", without=without - {("base", 6)})
    table = {row["arm"]: row for row in rows(folder / "table.csv") if row["figure"] == PRIMARY}
    row = table["no cycle"]
    seeds = {"1": 4, "2": 6}[row["look"]]
    assert row["passed"] == "true"
    assert float(row["p_t"]) == pytest.approx(stats.ttest_1samp(differences(value, "no cycle", seeds=seeds), 0).pvalue, rel=1e-9)
    assert float(row["p_t"]) <= float(row["level_at_look"]) < 0.05
    assert table["long"]["passed"] == "false"
    assert row["p_sign_flip_holm"] == ""
    assert "Decided: “no cycle”" in printed
    assert "Not decided yet" in printed
