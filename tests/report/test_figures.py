from __future__ import annotations

import math

import pytest
from rich.console import Console

from ibllm_core.cli.tables import results_table
from ibllm_core.runs.figures import meaning, primary_split, shown, table, wilson

RESULTS = {"test/scene_exact": 0.95, "novel/scene_exact": 0.9, "novel/self_agreement": 0.8, "novel/items": 512, "novel/own": 3.0}


def printed(results: dict[str, float], items: int | dict[str, int] | None = None) -> str:
    console = Console(width=140, no_color=True)
    with console.capture() as capture:
        console.print(results_table(results, items))
    return " ".join(capture.get().split())


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263.
    low, high = wilson(81 / 263, 263)
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson(0.0, 10)[0] == pytest.approx(0.0, abs=1e-12)


def test_figures_as_rows_and_splits_as_columns() -> None:
    found = table(RESULTS)
    assert found.splits == ["test", "novel"]
    assert found.primary == "novel"
    assert [row.figure for row in found.rows] == ["scene_exact", "self_agreement", "own"]
    assert found.rows[0].cells["novel"].n == 512
    assert found.rows[0].cells["test"].interval == ""


def test_items_told_apart_from_the_results() -> None:
    assert table({"test/scene_exact": 0.5}, 100).rows[0].cells["test"].n == 100
    assert table({"test/scene_exact": 0.5}, {"test": 50}).rows[0].cells["test"].n == 50


def test_what_is_no_number_is_left_out() -> None:
    assert not table({"novel/scene_exact": math.nan, "novel/name": "x", "novel/flag": True}).rows


def test_a_known_word_in_a_qualified_name() -> None:
    assert meaning("zh/bleu").label == "BLEU, zh"
    assert meaning("my_figure").label == "my figure"
    assert not meaning("zh/caption_exact").counted


def test_numbers_as_text() -> None:
    assert [shown(value, False) for value in (0.03125, 95.213, 81.0, 0.0)] == ["0.0312", "95.2", "81", "0"]
    assert shown(0.9316, True) == "93.2 %"


def test_the_split_to_look_at_first() -> None:
    assert primary_split(["train", "test", "novel"]) == "novel"
    assert primary_split(["tone", "concept"]) == "tone"
    assert primary_split([]) is None


def test_the_terminal_table() -> None:
    text = printed(RESULTS)
    assert "novel (n = 512)" in text
    assert "87.1–92.3 %" in text
    assert "self-agreement (not independent)" in text
    assert "the captioner's gradients trained the generator" in text


def test_the_terminal_table_takes_names_literally() -> None:
    assert "[red]own" in printed({"[bold]/[red]own": 1.0})
    assert printed({})
