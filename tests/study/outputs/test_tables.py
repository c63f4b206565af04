"""The tables of a study: what scipy and statsmodels say, in the study's order, nothing left out, whatever arms are called."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ibllm_study import wording
from ibllm_study.analysis import Analysis, Unit
from ibllm_study.findings import from_plan
from ibllm_study.latex import text
from ibllm_study.outputs import write_outputs
from ibllm_study.statistics import Comparison
from scipy import stats
from statsmodels.stats.multitest import multipletests

PRIMARY = "novel/scene_exact"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(whole) -> Path:
    return whole[1].path


@pytest.fixture(scope="module")
def arms(whole) -> list[str]:
    return [arm.name for arm in whole[0].arms]


def test_runs_csv_has_every_run_in_the_studys_order(folder, whole, arms):
    found = rows(folder / "runs.csv")
    assert [(row["arm"], int(row["seed"])) for row in found] == [(arm, seed) for arm in arms for seed in range(8)]
    status = {(row["arm"], row["seed"]): row["status"] for row in found}
    assert status.pop(("no cycle", "3")) == "failed"
    assert status.pop(("λ = 0", "7")) == "waiting"
    assert set(status.values()) == {"done"}
    for row in found:
        assert (folder / row["path"]).is_dir() == (row["status"] == "done")
    done = next(row for row in found if row["status"] == "done")
    assert {"novel/bleu", "training_seconds", "parameters", "training_flops", "peak_memory_bytes"} <= set(done)
    assert float(done["training_seconds"]) == 280.0  # evaluation is no training


def test_table_csv_is_what_the_libraries_say(folder, arms):
    """From runs.csv to table.csv by other means: means, t-intervals, paired tests, Holm over the arms."""
    values = {(row["arm"], row["seed"]): float(row[PRIMARY]) for row in rows(folder / "runs.csv") if row["status"] == "done"}
    table = {row["arm"]: row for row in rows(folder / "table.csv") if row["figure"] == PRIMARY}
    assert list(table) == arms
    by_hand = []
    for arm in arms:
        own = [value for (name, _), value in values.items() if name == arm]
        assert int(table[arm]["n"]) == len(own)
        assert int(table[arm]["runs"]) == 8
        low, high = stats.t.interval(0.95, len(own) - 1, np.mean(own), stats.sem(own))
        for column, value in (("mean", np.mean(own)), ("sd", np.std(own, ddof=1)), ("low", low), ("high", high)):
            assert float(table[arm][column]) == pytest.approx(value, rel=1e-9)
        if arm == "base":
            assert table[arm]["difference"] == ""
            continue
        common = [seed for name, seed in values if name == arm and ("base", seed) in values]
        test = stats.ttest_rel([values[arm, seed] for seed in common], [values["base", seed] for seed in common])
        by_hand.append(test.pvalue)
        assert int(table[arm]["seeds_in_common"]) == len(common)
        assert float(table[arm]["p_t"]) == pytest.approx(test.pvalue, rel=1e-9)
        assert float(table[arm]["difference_low"]) == pytest.approx(test.confidence_interval(0.95).low, rel=1e-9)
    corrected = multipletests(by_hand, method="holm")[1]
    assert [float(table[arm]["p_t_holm"]) for arm in arms[1:]] == pytest.approx(list(corrected), rel=1e-9)


def test_only_the_primary_figure_is_corrected(folder, arms):
    table = rows(folder / "table.csv")
    for row in table:
        assert (row["p_t_holm"] != "") == (row["figure"] == PRIMARY and row["arm"] != "base")
    assert {row["figure"] for row in table if row["arm"] == "base"} == {
        PRIMARY, "novel/caption_exact", "novel/bleu", "novel/self_agreement", "test/scene_exact",
    }  # fmt: skip


def test_markdown_shows_arms_counts_and_failures(folder, arms):
    source = (folder / "table.md").read_text(encoding="utf-8")
    table = [line for line in source.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 9 for line in table[:7])
    assert [line.split("|")[1].strip() for line in table[2:6]] == arms[:4]
    assert "| 7 of 8 |" in table[3]
    assert "2 of 40 runs have no figures" in source
    assert "exploratory" in source.lower()
    assert "<script>" not in source


def test_markdown_numbers_are_the_csvs(folder):
    row = next(row for row in rows(folder / "table.csv") if row["arm"] == "no cycle" and row["figure"] == PRIMARY)
    line = next(line for line in (folder / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("| no cycle"))
    mean, low, high, difference = (f"{100 * float(row[name]):.1f}" for name in ("mean", "low", "high", "difference"))
    assert rf"{mean} \[{low}, {high}\]" in line
    assert difference.replace("-", "−") in line


def test_latex_is_whole_and_escaped(folder):
    """Without a LaTeX engine: environments and braces close, rows have their columns, nothing special is bare."""
    source = (folder / "table.tex").read_text(encoding="utf-8")
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", source):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    body = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}$&%#_]", "", body)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set("%#_^~<>|") & set(re.sub(r"\$[^$]*\$|\\label\{[^}]*\}|~", "", bare))
    assert body.isascii(), [c for c in body if not c.isascii()]
    assert "\\toprule" in body
    for table in body.split("\\end{table}")[:-1]:
        columns = len(re.search(r"@\{\}(.*)@\{\}\}\n", table)[1].replace("p{3.6cm}", "l").replace("p{4.4cm}", "l"))
        inside = table[table.index("\\midrule") : table.index("\\bottomrule")]
        for row in inside.splitlines()[1:-1]:
            spans = row.count("\\multicolumn{2}")
            assert len(re.findall(r"(?<!\\)&", row)) + 1 + spans == columns, row


def test_latex_text():
    assert text("λ = 0") == r"$\lambda$ = 0"
    assert text("a_b & 100 % {x} $y$ #1 ~ ^ \\") == r"a\_b \& 100 \% \{x\} \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    assert text("[0.1]*") == "{[}0.1{]}{*}"  # after a row's end, [ and * would be its options


def test_a_test_is_judged_by_what_it_can_show_itself(make, tmp_path, monkeypatch):
    """Five seeds: no sign-flip test can pass after Holm's correction, and a t-test does, which must not be hidden by it."""
    monkeypatch.setenv("COLUMNS", "160")
    plan, directory = make(tmp_path, seeds=5)
    printed = "\n".join(write_outputs(plan, directory))
    table = {row["arm"]: row for row in rows(directory / "table.csv") if row["figure"] == PRIMARY and row["arm"] != "base"}
    assert {row["sign_flip_cannot_pass"] for row in table.values()} == {"true"}
    p_t, p_flips = (wording.p_value(float(table["no cycle"][column])) for column in ("p_t_holm", "p_sign_flip_holm"))
    assert float(table["no cycle"]["p_t_holm"]) < 0.05
    for said in (printed, *((directory / name).read_text(encoding="utf-8") for name in ("table.md", "study.html"))):
        line = next(line for line in re.split(r"\n(?=\| no|no cycle)|<tr", said) if "no cycle" in line and p_t in line)
        assert f"{p_flips}†" in line
        assert "The t-test, Holm-corrected, passes 0.05 for “no cycle”" in said.replace("\\", "")
        assert "Could not pass 0.05, however large the difference" in said
    assert rf"{p_flips}$^\dagger$" in (directory / "table.tex").read_text(encoding="utf-8")


def test_a_corrected_p_that_passes_has_no_mark():
    """Holm's later steps multiply by less than the family, which `too_few` goes by."""
    comparison = Comparison(seeds=tuple(range(7)), p_t=1e-4, p_permutation=2**-6, p_t_holm=3e-4, p_permutation_holm=3 * 2**-6, family=4)
    assert comparison.too_few
    assert wording.p_values(comparison) == ("< 0.001", "0.047")


def test_differences_of_the_primary_figure_have_simultaneous_intervals(folder):
    row = next(row for row in rows(folder / "table.csv") if row["arm"] == "no cycle" and row["figure"] == PRIMARY)
    half = stats.t.isf(0.05 / (2 * 4), int(row["seeds_in_common"]) - 1) * float(row["difference_sd"]) / np.sqrt(int(row["seeds_in_common"]))
    low, high = float(row["difference"]) - half, float(row["difference"]) + half
    assert (float(row["difference_low_all"]), float(row["difference_high_all"])) == pytest.approx((low, high), rel=1e-9)
    line = next(line for line in (folder / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("| no cycle"))
    assert rf"\[{100 * low:.1f}, {100 * high:.1f}\]".replace("-", "−") in line


def test_intervals_of_shares_stay_within_them(make, tmp_path):
    plan, directory = make(tmp_path, seeds=3)
    for cell in plan.cells:
        if cell.arm.name == "no cycle":
            path = directory.run(cell).path / "results.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), PRIMARY: 0.02 * (cell.seed == 2)}))
    write_outputs(plan, directory)
    table = rows(directory / "table.csv")
    for row in table:
        assert all(0 <= float(row[name]) <= 1 for name in ("low", "high")), row
        assert all(-1 <= float(row[name]) <= 1 for name in ("difference_low", "difference_high") if row[name]), row
    assert float(next(row for row in table if row["arm"] == "no cycle" and row["figure"] == PRIMARY)["low"]) == 0


def test_figures_that_are_equal_in_every_run_share_a_row(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    for cell in plan.cells:
        path = directory.run(cell).path / "results.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "novel/caption_exact": json.loads(path.read_text())["test/scene_exact"]})
        )
    write_outputs(plan, directory)
    lines = [line for line in (directory / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ") and " = " in line]
    assert any("novel: captions right" in line and "test: scenes right" in line for line in lines)
    assert {"novel/caption_exact", "test/scene_exact"} <= {row["figure"] for row in rows(directory / "table.csv")}


def test_nothing_done_yet_is_a_table_too(make, tmp_path):
    names = [arm.name for arm in make(tmp_path / "names", seeds=2)[0].arms]
    plan, directory = make(tmp_path / "empty", seeds=2, without=frozenset((name, seed) for name in names for seed in range(2)))
    printed = "\n".join(write_outputs(plan, directory))
    assert "10 of 10 runs have no figures" in printed
    assert len(rows(directory / "runs.csv")) == 10


def test_every_column_is_documented(folder):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "compare.md").read_text(encoding="utf-8")
    for name in ("table.csv", "runs.csv"):
        for column in (column for column in rows(folder / name)[0] if "/" not in column):
            assert f"`{column}`" in page, column


def test_digits_follow_the_spread():
    assert Unit(label="", percent=True, decimals=1).number(0.69549) == "69.5"
    assert Unit(label="", percent=True, decimals=1).number(-0.021, sign=True) == "−2.1"
    assert Unit(label="", percent=True, decimals=1).number(-0.0001, sign=True) == "0.0"


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.5, "0.50"), (0.0312, "0.031"), (0.0078, "0.0078"), (0.0004, "< 0.001"), (0.0996, "0.10"), (1.0, "1.00"), (None, "—")],
)
def test_p_values(p, shown):
    assert wording.p_value(p) == shown


def test_findings_know_what_differs_and_why_a_run_is_missing(whole):
    found = from_plan(*whole)
    assert found.question == "Does the cycle help? And does λ matter?"
    arm = next(arm for arm in found.arms if arm.name == "λ = 0")
    assert arm.differs == ["losses.joint.lambda: 0.5 → 0.0"]
    failed = next(arm for arm in found.arms if arm.name == "no cycle").runs[3]
    assert failed.status == "failed"
    assert "out of memory" in failed.reason
    assert failed.log is not None
    assert Analysis(found).figures[0] == PRIMARY
