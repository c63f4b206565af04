"""Figures that others wrote, and a study's figures for others: CSV, pandas, arrays of scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from ibllm_study.findings import from_runs
from ibllm_study.foreign import from_csv
from ibllm_study.outputs import write_findings
from ibllm_study.saved import SavedStudy, from_directory

import ibllm
from ibllm_core.errors import UserError


def compare(*arguments: object) -> Result:
    from ibllm_cli.main import cli

    return CliRunner().invoke(cli, ["compare", *map(str, arguments)], standalone_mode=False, env={"COLUMNS": "160"})


FOREIGN = """arm,seed,accuracy,wall clock
base,0,0.71,5
base,1,0.74,6
base,2,0.69,7
base,3,0.73,6
other,0,0.79,4
other,1,0.80,5
other,3,0.81,
other,2,0.78,3
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    path.write_text(FOREIGN, encoding="utf-8")
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_studys_own_runs_csv_gives_the_same_table(whole, tmp_path):
    findings = from_directory(whole[1].path)
    write_findings(findings, tmp_path / "own")
    result = compare("--csv", tmp_path / "own" / "runs.csv", "--primary", findings.primary, "--out", tmp_path / "again")
    assert result.return_value == 0
    assert table(tmp_path / "again" / "table.csv") == table(tmp_path / "own" / "table.csv")
    before, after = (
        [{k: v for k, v in row.items() if k != "path"} for row in table(tmp_path / name / "runs.csv")] for name in ("own", "again")
    )
    assert before == after


def test_foreign_figures_are_compared_and_what_they_lack_is_left_out(foreign, tmp_path):
    result = compare("--csv", foreign, "--mode", "max", "--out", tmp_path / "out")
    assert result.return_value == 0, result.exception
    row = next(row for row in table(tmp_path / "out" / "table.csv") if (row["arm"], row["figure"]) == ("other", "accuracy"))
    assert float(row["difference"]) == pytest.approx(np.mean([0.08, 0.06, 0.09, 0.08]))
    assert row["n"] == "4"
    assert "What differs" not in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "What differs" not in (tmp_path / "out" / "study.html").read_text(encoding="utf-8")
    again = json.loads(json.dumps(table(tmp_path / "out" / "runs.csv")))
    assert [row["wall clock"] for row in again][-1] == ""


def test_an_unknown_figure_needs_a_direction(foreign):
    assert "its metric does not say whether more of it is better" in str(compare("--csv", foreign).exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arm,sed,x\n", ["no column 'seed'; did you mean 'sed'?"]),
        ("arm,seed\na,0\n", ["no column holds a figure"]),
        ("arm,seed,x,x\na,0,1,1\n", ["the column 'x' is there twice"]),
        ("arm,seed,x\na,0,1\n", ["1 arm; expected two or more"]),
        (
            "arm,seed,x\na,0,1\na,0,2\nb,one,1\n,1,1\nb,2,nan\nb,3,good\nb,4,1,9\n",
            [
                ":3: 'a' has seed 0 twice", ":4: seed = 'one'; expected a whole number", ":5: arm is empty", ":6: x = 'nan'; expected a finite",
                ":7: x = 'good'", ":8: more cells than columns",
            ],
        ),
    ],
)  # fmt: skip
def test_all_mistakes_of_a_table_are_told_with_their_lines(text, said, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        from_csv(path, mode="max")
    for part in said:
        assert part in str(raised.value)


def test_the_base_is_named_or_called_so_or_first(foreign):
    assert from_csv(foreign, mode="max").base.name == "base"
    assert from_csv(foreign, mode="max", base="other").base.name == "other"
    foreign.write_text(FOREIGN.replace("base", "zero"), encoding="utf-8")
    assert from_csv(foreign, mode="max").base.name == "zero"
    with pytest.raises(UserError, match="--base othr: no arm is called so; did you mean 'other'"):
        from_csv(foreign, mode="max", base="othr")


@pytest.mark.parametrize("arguments", [(), ("--csv", "a.csv", "a-run"), ("--mlflow", "sqlite:///m.db")])
def test_one_source_of_figures_is_expected(arguments):
    assert "expected" in str(compare(*arguments).exception)


def test_a_frame_has_a_row_a_run(whole):
    study = ibllm.study(whole[1].path)
    frame = study.frame()
    assert list(frame.columns[:3]) == ["arm", "seed", "status"]
    assert len(frame) == len(study.findings.runs)
    mean = frame[frame.arm == "base"][study.findings.primary].mean()
    rows = study.table()
    assert rows[(rows.arm == "base") & rows.primary]["mean"].item() == pytest.approx(mean)


def test_scores_are_runs_by_figures_and_runs_that_lack_one_are_counted(foreign):
    study = SavedStudy(from_csv(foreign, mode="max"))
    assert {arm: array.shape for arm, array in study.scores(["accuracy"]).items()} == {"base": (4, 1), "other": (4, 1)}
    with pytest.warns(UserWarning, match="1 of 8 runs lack one of the figures"):
        scores = study.scores(["accuracy", "wall clock"])
    assert scores["other"].tolist() == [[0.79, 4.0], [0.8, 5.0], [0.78, 3.0]]
    with pytest.raises(UserError, match="no run has the figure 'acuracy'; did you mean 'accuracy'"):
        study.scores(["acuracy"])


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no study"):
        ibllm.study(tmp_path)


def test_runs_of_another_state_are_refused_unless_that_is_accepted(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    paths = [directory.run(cell).path for cell in plan.cells if cell.arm.name in ("base", "no cycle")]
    for path in paths:
        info = json.loads((path / "run.json").read_text(encoding="utf-8"))
        state = {"sources": {"pile": "2" if path == paths[-1] else "1"}, "fingerprint": {"data": "f"}}
        (path / "run.json").write_text(json.dumps({**info, **state}), encoding="utf-8")
    with pytest.raises(UserError, match=r"not all made alike: another state of pile \(A: .* 0, 1; .* 0; B: .* 1\).*--accept-code"):
        from_runs(paths)
    found = from_runs(paths, accept_code=True)
    assert found.command.endswith("--accept-code")
    write_findings(found, tmp_path / "out")
    rows = table(tmp_path / "out" / "runs.csv")
    assert [(row["source_state"], row["data_state"]) for row in rows] == [("A", "A")] * 3 + [("B", "A")]
    page = (tmp_path / "out" / "study.html").read_text(encoding="utf-8")
    assert "source and versions: runs of one letter share them" in page and ">A: " in page
    assert "not all made with the same source or weights of pile." in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_data_that_differ_within_an_arm_are_refused(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    paths = [directory.run(cell).path for cell in plan.cells if cell.arm.name in ("base", "no cycle")]
    for number, path in enumerate(paths):
        info = json.loads((path / "run.json").read_text(encoding="utf-8"))
        (path / "run.json").write_text(json.dumps({**info, "fingerprint": {"data": str(number // 2)}}), encoding="utf-8")
    with pytest.raises(UserError, match="other data in"):
        from_runs(paths)
