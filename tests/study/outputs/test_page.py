"""study.html: one file that loads nothing, whatever arms are called; arms in the study's order; nothing that is missing is hidden."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ibllm_report.comparisons import Spot, trade_off
from ibllm_study import charts
from ibllm_study.analysis import Analysis
from ibllm_study.charts import dominates
from ibllm_study.findings import from_plan
from ibllm_study.outputs import write_outputs

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, the text outside of styles, and table rows as texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(whole) -> Page:
    return Page(whole[1] / "study.html")


def test_page_stands_alone(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not page.all("script")
    assert "url(" not in page.source.replace("url(#", "")
    assert "http" not in page.source
    assert not page.open
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for _, attributes in page.elements if (attributes.get("href") or "").startswith("#")}
    assert {target[1:] for target in targets if target} <= set(ids)


def test_header_says_what_was_asked_and_what_the_seeds_can_show(page):
    head = page.text[: page.text.index("All figures")]
    assert "Does the cycle help?" in head
    assert "novel/scene_exact" in head
    assert "8 seeds" in head
    assert "Sign-flip test" in head
    assert "38 of 40 runs" in head


def test_arms_stand_in_the_studys_order(page, whole):
    names = [arm.name for arm in whole[0].arms]
    firsts = [row[0].strip() for row in page.rows]
    assert any(firsts[k : k + len(names)] == names for k in range(len(firsts)))
    assert [row[-len(names) :] for row in page.rows if row[0].strip() == "Figure"] == [names, names]
    plots = [attributes["aria-label"] for attributes in page.all("svg")]
    forest = next(label for label in plots if label.startswith("Plot. novel: scenes right"))
    places = [forest.index(name) for name in names[1:]]
    assert places == sorted(places)


def test_every_kind_of_plot_is_there(page):
    labels = [attributes["aria-label"] for attributes in page.all("svg")]
    for start in (
        "Plot. novel: scenes right.", "Plot. novel: captions right.", "Plot. test: scenes right.", "Plot. scenes right, stage text.",
        "Plot. scenes right, stage joint.", "Plot. scenes right against training compute.", "Plot. scenes right against training time.",
    ):  # fmt: skip
        assert any(label.startswith(start) for label in labels), start
    assert "currentColor" in page.source
    assert "#a0000" not in page.source  # every placeholder colour became the page's


def test_what_failed_is_said(page):
    assert "no cycle, seed 3: failed: killed by SIGKILL" in page.text
    assert "(log: logs/" in page.text
    assert "λ = 0, seed 7: waiting" in page.text
    assert "7 of 8" in page.text


def test_secondary_figures_are_marked_and_starless(page):
    assert "exploratory" in page.text
    assert "★" not in page.text
    assert "*" not in "".join(cell for row in page.rows for cell in row)


def test_samples_are_of_one_seed_and_one_caption_a_row(page, whole):
    rows = [row for row in page.rows if row[0].startswith("caption ")]
    assert len(rows) == 3
    assert all(len(row) == 2 + len(whole[0].arms) for row in rows)
    assert "wrong" in rows[0][2]  # the base is arm 0, whose item 0 is wrong in the fixture
    assert "right" in rows[1][2]


def test_costs_stand_beside_each_other(page):
    rows = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in page.rows if row}
    assert rows["Parameters"][:2] == ["1,200,000", "1,290,000"]
    assert rows["Training compute (FLOPs)"][0] == "3.1 T"
    assert rows["Peak memory, of the process, mean of the runs"][0] == "300.0 MiB"


def test_what_no_run_says_is_left_out(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    for path in directory.path.glob("runs/*/run.json"):
        info = json.loads(path.read_text(encoding="utf-8"))
        del info["training_flops"], info["memory"]
        path.write_text(json.dumps(info), encoding="utf-8")
    write_outputs(plan, directory)
    page = Page(directory / "study.html")
    assert "Training compute" not in page.text
    assert "Peak memory" not in page.text
    assert "against training time" in page.source
    assert not list(directory.path.glob(".*.partial"))


def test_a_curve_ends_where_its_first_run_did(make, tmp_path):
    plan, directory = make(tmp_path, seeds=2)
    stopped = directory.run(plan.cell("base", 0)) / "metrics.jsonl"
    lines = stopped.read_text(encoding="utf-8").splitlines()
    stopped.write_text("\n".join(lines[:3]) + "\n", encoding="utf-8")  # the first three validations of the first stage
    from ibllm_report.files import read

    analysis = Analysis(from_plan(plan, directory))
    files = {run.path: read(run.path) for _, run in analysis.findings.runs}
    found = [stage for stage in charts.learning(analysis, files) if stage.by == "steps"]
    assert [stage.stage for stage in found] == ["text", "joint"]
    label = str(found[0].plots[0].svg)
    values = [json.loads(line)["scene_exact"] for line in lines[:3]]
    other = [json.loads(line) for line in (directory.run(plan.cell("base", 1)) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f"base: {50 * (values[2] + other[2]['scene_exact']):.1f} % at the end" in label


def test_learning_curves_are_over_steps_flops_or_seconds(make, tmp_path):
    """What a step costs is the mean over an arm's runs: the text stage of `base` takes 200 and 201 s for 8 steps."""
    plan, directory = make(tmp_path, seeds=2)
    for path in directory.path.glob("runs/*/run.json"):
        info = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**info, "item_flops": {"text": 1e6, "joint": 3e6}}), encoding="utf-8")
    write_outputs(plan, directory)
    page = Page(directory / "study.html")
    for axis in ("steps", "flops", "seconds"):
        assert f'id="axis-{axis}"' in page.source and f'class="by-{axis}"' in page.source
    analysis = Analysis(from_plan(plan, directory))
    from ibllm_report.files import read

    runs = [read(run.path) for run in analysis.findings.base.done]
    assert charts._cost_of_a_step(runs, "text", "seconds") == pytest.approx((200 + 201) / 2 / 8)
    batch = charts._batch(runs[0], "text")
    assert batch == plan.base.stages["text"].training.batch
    assert charts._cost_of_a_step(runs, "joint", "flops") == pytest.approx(3e6 * batch)
    assert charts._cost_of_a_step(runs, "image", "seconds") is None


def test_pareto_front():
    assert dominates((1.0, 0.9), (2.0, 0.9))
    assert dominates((1.0, 0.9), (1.0, 0.8))
    assert not dominates((1.0, 0.9), (1.0, 0.9))
    assert not dominates((1.0, 0.8), (2.0, 0.9))


def test_arms_of_equal_cost_and_quality_are_told_apart():
    """Numbers stand beside each other, not on each other."""
    spots = [Spot(k, f"arm {k}", 1.0, 50.0, None, None, True) for k in range(1, 7)]
    plot = trade_off("quality", spots, xlabel="cost", ylabel="quality")
    assert [glyph for glyph, _, _ in plot.legend] == list("123456")
