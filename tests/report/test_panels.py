"""Panels: what metrics and plugins add to a report is kept as data, shown escaped, and left out where it is broken."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ibllm_report.listener import Report
from ibllm_report.panels import read_panels, write_panels

from ibllm_core.interfaces.reporting import Panel
from ibllm_core.recipe import load
from ibllm_core.training.events import Bus, Listener, RunClosed, RunEnded, RunStarted

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "training" / "tiny.toml"


def test_a_table_keeps_its_numbers_and_a_picture_its_pixels(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)
    write_panels(
        tmp_path, [Panel(title="a", header=("x", "y"), rows=[("one", 0.123456), ("two", 3)], picture=pixels, text="first\n\nsecond")]
    )
    (panel,) = read_panels(tmp_path)["figures"]
    assert (panel.rows, panel.numbers, panel.paragraphs) == ([["one", "0.1235"], ["two", "3"]], [False, True], ["first", "second"])
    assert panel.picture is not None
    assert (panel.picture.width, panel.picture.height) == (6, 4)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_pictures_of_all_channels_are_kept(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_panels(tmp_path, [Panel(title="a", picture=np.zeros(shape, np.uint8))])
    assert read_panels(tmp_path)["figures"][0].picture is not None


def test_what_is_broken_is_left_out(tmp_path: Path) -> None:
    write_panels(tmp_path, [Panel(title="a", place="samples", picture=np.zeros((2, 2), np.uint8)), Panel(title="b")])
    (tmp_path / "panels" / "panel-0.png").write_bytes(b"no picture")
    assert [panel.picture for panel in read_panels(tmp_path)["samples"]] == [None]
    entries = json.loads((tmp_path / "panels" / "panels.json").read_text())["panels"]
    entries[1] = {"title": "b", "rows": 3, "picture": "../secret.png", "place": "elsewhere"}
    (tmp_path / "panels" / "panels.json").write_text(json.dumps({"panels": [*entries, "odd"]}))
    assert [panel.title for panel in read_panels(tmp_path)["training"]] == ["b"]
    (tmp_path / "panels" / "panels.json").write_text("[")
    assert not any(read_panels(tmp_path).values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"place": "top"}, "place"),
        ({"header": ("x",), "rows": [(1, 2)]}, "a row of 2 cells: expected 1, as the header has"),
        ({"picture": np.zeros((2, 2), np.float32)}, r"picture is float32 \(2, 2\): expected uint8"),
    ],
)
def test_a_panel_that_no_report_can_show_is_refused_where_it_is_made(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Panel(title="a", **given)  # type: ignore[arg-type]


class Adding(Listener):
    """Appends what it is given when the run has ended."""

    def __init__(self, *panels: object) -> None:
        self.panels = panels

    def on_run_ended(self, event: RunEnded) -> None:
        for panel in self.panels:
            event.panels.append(panel)  # type: ignore[arg-type]


def test_what_a_listener_adds_is_in_the_last_report_and_in_every_later_one(tmp_path: Path) -> None:
    from ibllm_report import render

    (tmp_path / "recipe.toml").write_text(TINY.read_text())
    bus = Bus()
    bus.add(
        Adding(Panel(title="<i>norms</i>", text="<script>alert(1)</script>", header=("<u>",), rows=[("<s>",)])),
        Adding("no panel"),
        Report(),
    )
    bus.emit(RunStarted(load(TINY), tmp_path))
    with pytest.warns(UserWarning, match=r"on_run_ended of the listener 'adding' raised TypeError: panels: expected a Panel, not a str"):
        bus.emit(RunEnded({}))
    bus.emit(RunClosed(tmp_path, "done"))
    first = (tmp_path / "report.html").read_text()
    assert "&lt;i&gt;norms&lt;/i&gt;" in first and "&lt;script&gt;alert(1)&lt;/script&gt;" in first and "&lt;s&gt;" in first
    assert "<script" not in first and "<i>" not in first
    render(tmp_path)
    assert (tmp_path / "report.html").read_text() == first


def test_the_example_of_the_documentation_gives_panels() -> None:
    page = (ROOT / "docs" / "how-to" / "plugin.md").read_text(encoding="utf-8").partition("## Panels in the report")[2]
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    names: dict[str, object] = {}
    exec(code[1], names)

    class Evaluation:
        captions = ("light", "dark")
        generated = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (200, 10)])

    metric = names["Brightness"](None, None)  # type: ignore[operator]
    table, picture = metric.panels(Evaluation())
    assert [row[0] for row in table.rows] == ["dark", "light"]
    assert picture.place == "samples"
    assert (picture.picture == 10).all()
    assert metric.evaluate(Evaluation()) == {"brightness": pytest.approx(105 / 255)}
