"""Learning curves read at equal FLOPs and at equal seconds, and a warning where the ranking is another one there."""

from __future__ import annotations

import json

import pytest
from ibllm_study.analysis import Analysis
from ibllm_study.findings import from_plan
from ibllm_study.matched import matched
from ibllm_study.outputs import write_outputs

PRIMARY = "novel/scene_exact"


@pytest.fixture(scope="module")
def curves(make, tmp_path_factory):
    """Two stages of 8 steps. An item of the second costs three times as much; "λ = 0" costs twice as much as the base, learns more slowly and gets further."""
    plan, directory = make(tmp_path_factory.mktemp("curves"), seeds=2)
    for cell in plan.cells:
        path = directory.run(cell).path
        info = json.loads((path / "run.json").read_text())
        slow = cell.arm.name == "λ = 0"
        info |= {"item_flops": {"text": 1.0, "joint": 3.0}, "training_flops": 8e12 if slow else 4e12}
        info["timings"] = {"text": 40.0, "joint": 40.0, "evaluation": 5.0}
        (path / "run.json").write_text(json.dumps(info))
        rows = []
        for stage, start in (("text", 0), ("joint", 8)):
            for step in (4, 8):
                share = (start + step) / 16
                rows.append(
                    {"step": start + step, "stage": stage, "kind": "validation", "scene_exact": 0.8 * share**2 if slow else 0.5 * share}
                )
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return plan, directory


def test_curves_are_read_where_all_arms_have_spent_as_much(curves):
    flops, seconds = matched(from_plan(*curves), PRIMARY)
    assert (flops.cost, flops.budget) == ("flops", 4e12)
    # The slow arm has spent 2 of its 8 TFLOP after the first stage and 4 at a third of the second, between its validations at steps 8 and 12.
    expected = 0.8 * 0.25 + (4 - 2) / (5 - 2) * 0.8 * (0.75**2 - 0.25)
    assert flops.arms["λ = 0"].mean == pytest.approx(expected)
    assert flops.arms["base"].mean == pytest.approx(0.5)
    assert (seconds.cost, seconds.budget) == ("seconds", 80.0)
    assert seconds.arms["λ = 0"].mean == pytest.approx(0.8)
    assert ("base", "λ = 0") in flops.changes
    assert not seconds.changes


def test_every_table_has_the_reading_and_the_warning(curves):
    printed = "\n".join(write_outputs(*curves))
    files = [(curves[1] / name).read_text(encoding="utf-8") for name in ("table.md", "study.html", "table.tex")]
    for said in (printed, *files):
        assert "In validation, at equal cost" in said
        assert "4 T FLOPs" in said.replace("~", " ").replace("\xa0", " ")
    for said in (printed, *files[:2]):
        assert "at equal training FLOPs the ranking is another than at the end" in said
        assert "comes before “λ = 0”" in said


def test_what_has_no_curves_is_told(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    for cell in plan.cells:
        (directory.run(cell).path / "metrics.jsonl").write_text("")
    analysis = Analysis(from_plan(plan, directory))
    assert analysis.matched == {PRIMARY: []}
    assert any("No reading at equal cost of novel/scene_exact" in line for line in write_outputs(plan, directory))
