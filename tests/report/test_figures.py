from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest
from ibllm_report.files import glossary_of
from ibllm_report.page import _headlines
from ibllm_report.results import table, wilson
from ibllm_report.results_table import results_table
from rich.console import Console

from ibllm.figures import IMAGE_TO_TEXT, NOT_INDEPENDENT, ROUND_TRIP, TEXT_TO_IMAGE, Figure, Mark
from ibllm.glossary import Glossary
from ibllm_core.runs.directory import RunDirectory

RESULTS = {"test/scene_exact": 0.95, "novel/scene_exact": 0.9, "novel/self_agreement": 0.8, "novel/items": 512, "novel/own": 3.0}


GLOSSARY = Glossary(
    figures={
        figure.name: figure
        for figure in (
            Figure("minutes_off", "time off", TEXT_TO_IMAGE, "How wrong.", unit="minutes", better="lower"),
            Figure.share("scene_exact", "scenes right", TEXT_TO_IMAGE, "All is there."),
            Figure("bleu", "BLEU", IMAGE_TO_TEXT, "Overlap.", counted=True),
            Figure.share("self_agreement", "self-agreement", ROUND_TRIP, "Agreement.", caution=NOT_INDEPENDENT),
            Figure("calm", "calm", "mood of the drawing", "How calm.", percent=True),
        )
    },
    splits={"train": "seen", "test": "new", "novel": "never seen"},
    marks={"scene": Mark("scene", "drawing", "image right", "image wrong", meaning="All is there.")},
    primary="novel",
)


def printed(results: dict[str, float], glossary: Glossary = GLOSSARY) -> str:
    console = Console(width=140, no_color=True)
    with console.capture() as capture:
        console.print(results_table(results, glossary))
    return " ".join(capture.get().split())


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263.
    low, high = wilson(81 / 263, 263)
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson(0.0, 10)[0] == pytest.approx(0.0, abs=1e-12)


def test_figures_as_rows_and_splits_as_columns() -> None:
    found = table(RESULTS, GLOSSARY)
    assert found.splits == ["test", "novel"]
    assert found.primary == "novel"
    assert [row.figure.name for row in found.rows] == ["scene_exact", "self_agreement", "own"]
    assert found.rows[0].cells["novel"].n == 512
    assert found.rows[0].cells["test"].interval == ""


def test_what_is_no_number_is_left_out() -> None:
    assert not table({"novel/scene_exact": math.nan, "novel/name": "x", "novel/flag": True}, GLOSSARY).rows


def test_a_known_word_in_a_qualified_name() -> None:
    assert GLOSSARY.figure("zh/bleu").label == "BLEU, zh"
    assert GLOSSARY.figure("bleu/zh").label == "BLEU, zh"
    assert GLOSSARY.figure("my_figure").label == "my figure"
    assert not GLOSSARY.figure("zh/bleu").counted


def test_numbers_as_text() -> None:
    assert [Figure("x").shown(value) for value in (0.03125, 95.213, 81.0, 0.0)] == ["0.0312", "95.2", "81", "0"]
    assert Figure("x", percent=True).shown(0.9316) == "93.2 %"
    assert Figure("x", unit="dB").shown(21.25) == "21.2 dB"


def test_the_split_to_look_at_first() -> None:
    assert GLOSSARY.first_split(["train", "test", "novel"]) == "novel"
    assert GLOSSARY.first_split(["tone", "concept"]) == "tone"
    assert GLOSSARY.first_split([]) is None


def test_sections_are_the_directions_and_a_metric_may_bring_its_own() -> None:
    found = table({"test/calm": 0.5, "test/self_agreement": 0.5, "test/other": 1.0, "test/scene_exact": 0.5}, GLOSSARY)
    assert [direction for direction, _ in found.groups()] == [TEXT_TO_IMAGE, ROUND_TRIP, "mood of the drawing", "other figures"]


def test_figures_come_in_the_order_of_the_metrics() -> None:
    rows = table({"test/other": 1.0, "test/scene_exact": 0.5, "test/minutes_off": 3.0}, GLOSSARY).rows
    assert [row.figure.name for row in rows] == ["minutes_off", "scene_exact", "other"]


def test_a_run_keeps_what_its_figures_mean() -> None:
    kept = json.loads(json.dumps({"status": "done"} | GLOSSARY.record()))
    assert Glossary.read(kept) == GLOSSARY


@pytest.mark.parametrize("damage", [{"figures": 3}, {"figures": {"bleu": {"colour": "red"}}}, {"marks": None}, {"splits": 1.0}])
def test_of_a_broken_record_and_of_none_figures_go_by_their_names(tmp_path: Path, damage: dict[str, object]) -> None:
    for info in ({}, GLOSSARY.record() | damage):
        assert glossary_of(RunDirectory(tmp_path), info) == Glossary()


def test_the_terminal_table() -> None:
    text = printed(RESULTS)
    assert "novel (n = 512)" in text
    assert "87.1–92.3 %" in text
    assert "self-agreement (not independent)" in text
    assert "the captioner's gradients trained the generator" in text


def test_the_terminal_table_shows_unit_direction_and_what_is_better() -> None:
    text = printed({"test/minutes_off": 3.25, "test/calm": 0.5})
    assert "time off, lower is better" in text
    assert "3.25 minutes" in text
    assert text.index("text → image") < text.index("time off") < text.index("mood of the drawing") < text.index("calm")


def test_the_terminal_table_takes_names_literally() -> None:
    assert "[red]own" in printed({"[bold]/[red]own": 1.0})
    assert printed({})
    assert "novel" in printed(RESULTS, Glossary())


def test_the_cards_show_every_direction() -> None:
    directions = {"a": TEXT_TO_IMAGE, "b": TEXT_TO_IMAGE, "c": IMAGE_TO_TEXT, "d": IMAGE_TO_TEXT, "e": IMAGE_TO_TEXT, "f": ROUND_TRIP}
    figures = {name: Figure.share(name, name, direction, "") for name, direction in directions.items()}
    glossary = attrs.evolve(GLOSSARY, figures=figures)

    def cards(names: str) -> str:
        return "".join(row.figure.name for row, _ in _headlines(table({f"novel/{name}": 0.5 for name in names}, glossary), glossary))

    assert [cards(names) for names in ("abcdef", "abc", "cdef", "f", "")] == ["abcf", "abc", "cdef", "f", ""]
