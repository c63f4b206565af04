"""What a script says, and what is told of one that says it wrongly."""

from __future__ import annotations

import pytest
from ibllm_scene.script import Entry, parse

from ibllm_core.errors import UserError


def test_lines_are_captions_in_order() -> None:
    script = parse("\ufefftitle: A walk\n\n# not read\na small red circle\n  a large   blue ring \n")
    assert script.title == "A walk" and not script.placed
    assert list(script.entries) == [Entry("a small red circle", 4), Entry("a large blue ring", 5)]


def test_places_may_lie_between_cells_and_be_written_in_chinese() -> None:
    script = parse("columns: 12\nrows: 2.5\n0, 1: a ring\n2.5,0 : a circle\n-1, 0.25: x\n3，1：一个红色的大圆形")
    assert (script.columns, script.rows) == (12, 2.5) and script.placed
    assert [entry.place for entry in script.entries] == [(0, 1), (2.5, 0), (-1, 0.25), (3, 1)]
    assert script.entries[-1].text == "一个红色的大圆形"


def test_every_mistake_is_told_with_its_line() -> None:
    with pytest.raises(UserError) as caught:
        parse("columns: many\ncolumns: 8\na caption\n0, 0: a ring\nrows: 2\n1, 1:\nanother", "fair.txt")
    told = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in told] == ["1", "4", "5", "6"]
    assert told[0] == "fair.txt:1: columns = 'many': expected a number greater than 0"
    assert "line 3 has none" in told[1] and "before the first caption" in told[2] and "a place with nothing in it" in told[3]


def test_a_script_that_says_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="it says nothing"):
        parse("title: Nothing\n# or nearly\n")
