"""What a factorial study leaves: effects, cells, aliases; Holm over the effects, not over the cells."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ibllm_study.analysis import Analysis
from ibllm_study.findings import from_plan
from ibllm_study.interactions import interactions
from ibllm_study.outputs import write_outputs
from statsmodels.stats.multitest import multipletests

TINY = Path(__file__).parents[2] / "training" / "tiny.toml"
STUDY = f"""\
# Do they add up?
format = 1
base = "{TINY}"
seeds = SEEDS
primary = "novel/scene_exact"
design = "factorial"
factorial = {{ fraction = 1 }}
[factors]
"no cycle" = {{ "losses.cycle" = false }}
"λ = 0" = {{ "losses.joint.lambda" = 0.0 }}
"long & wide" = {{ "stages.joint.steps" = 12 }}
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(make, tmp_path_factory):
    plan, directory = make(tmp_path_factory.mktemp("factorial"), seeds=8, text=STUDY)
    return directory.path, "\n".join(write_outputs(plan, directory))


def test_effects_are_corrected_over_effects(written):
    effects = [row for row in rows(written[0] / "effects.csv") if row["figure"] == "novel/scene_exact"]
    assert [row["effect"] for row in effects] == ["no cycle", "λ = 0", "long & wide"]
    assert {row["effects"] for row in effects} == {"3"}
    corrected = multipletests([float(row["p_t"]) for row in effects], method="holm")[1]
    assert [float(row["p_t_holm"]) for row in effects] == pytest.approx(list(corrected), rel=1e-9)
    assert {row["aliases"] for row in effects} == {"− λ = 0 × long & wide", "− no cycle × long & wide", "− no cycle × λ = 0"}
    other = [row for row in rows(written[0] / "effects.csv") if row["figure"] == "test/scene_exact"]
    assert {row["p_t"] for row in other} == {""}, "what decides nothing is not tested"


def test_an_effect_is_a_contrast_of_cells_by_seed(written):
    value = {(row["arm"], row["seed"]): float(row["novel/scene_exact"]) for row in rows(written[0] / "runs.csv") if row["status"] == "done"}
    high, low = ("no cycle, λ = 0", "no cycle, long & wide"), ("base", "λ = 0, long & wide")
    by_seed = [sum(value[arm, seed] for arm in high) / 2 - sum(value[arm, seed] for arm in low) / 2 for seed in map(str, range(8))]
    found = next(row for row in rows(written[0] / "effects.csv") if row["effect"] == "no cycle")
    assert float(found["difference"]) == pytest.approx(sum(by_seed) / 8)


def test_cells_are_shown_and_not_tested(written):
    table = [row for row in rows(written[0] / "table.csv") if row["figure"] == "novel/scene_exact"]
    assert len(table) == 4
    assert {row["p_t"] for row in table} == {""}
    source = (written[0] / "table.md").read_text(encoding="utf-8")
    assert "## Effects" in source
    assert "## Cells" in source
    assert "resolution 3" in source
    assert "Holm-corrected over the 3 effects" in source
    for said in (source.replace("\\", ""), written[1], (written[0] / "study.html").read_text(encoding="utf-8")):
        assert "no cycle" in said
        assert "aliases" in said


def test_a_plot_shows_each_interaction(make, tmp_path):
    text = STUDY.replace("factorial = { fraction = 1 }\n", "").replace('"λ = 0" = { "losses.joint.lambda" = 0.0 }\n', "")
    plan, directory = make(tmp_path, seeds=2, text=text)
    (plot,) = interactions(Analysis(from_plan(plan, directory)))
    assert plot.title == "no cycle × long & wide"
    assert [label for _, _, label in plot.legend] == ["without long & wide", "with long & wide"]
    assert "without no cycle" in plot.svg


def test_an_interaction_is_told_by_its_sign(make, tmp_path):
    plan, directory = make(tmp_path, seeds=8, text=STUDY.replace("factorial = { fraction = 1 }", "margin = 0.02"))
    claims = {claim.label: claim for claim in Analysis(from_plan(plan, directory)).claims}
    for label, claim in claims.items():
        words = ("positive", "negative", "none beyond", "not to be told") if "×" in label else ("better", "worse", "the same", "not")
        assert claim.answer.startswith(words), (label, claim.answer)
        if claim.answer.startswith(("positive", "negative")):
            assert (claim.comparison.difference > 0) == claim.answer.startswith("positive")
