from __future__ import annotations

import pytest
from ibllm_report.highlight import coloured
from ibllm_report.text_diff import Segment, compare


@pytest.mark.parametrize(
    ("reference", "text", "wrong", "left_out"),
    [
        ("a small red circle", "a small red circle", [], []),
        ("a small red circle", "a small blue circle", ["blue"], ["red"]),
        ("A small, red circle", "a small red circle", [], [","]),
        ("red circle at the left", "circle at the left", [], ["red"]),
        ("a circle", "a very big circle", ["very big"], []),
        ("红色的小圆形", "蓝色的小圆形", ["蓝"], ["红"]),
        ("a circle", "", [], ["a circle"]),
        ("", "", [], []),
    ],
)
def test_words_that_differ(reference: str, text: str, wrong: list[str], left_out: list[str]) -> None:
    expected, found = compare(reference, text)
    assert [segment.text.strip() for segment in found if segment.differs] == wrong
    assert [segment.text.strip() for segment in expected if segment.differs] == left_out


def test_stretches_give_the_captions_back() -> None:
    reference, text = "  a small,  red circle ", "one 蓝色的 circle, there"
    expected, found = compare(reference, text)
    assert "".join(segment.text for segment in expected) == reference
    assert "".join(segment.text for segment in found) == text
    assert all(isinstance(segment, Segment) and segment.text for segment in expected + found)


def test_a_recipe_in_colours() -> None:
    html = str(coloured('[data]  # where\nuse = "sh<a>pes"\nlist = [1, 2.5e-3, true]\n'))
    assert '<span class="t-table">[data]</span>' in html
    assert '<span class="t-comment"># where</span>' in html
    assert '<span class="t-key">use</span>' in html
    assert '<span class="t-string">&#34;sh&lt;a&gt;pes&#34;</span>' in html
    assert '<span class="t-number">2.5e-3</span>' in html
    assert '<span class="t-boolean">true</span>' in html


def test_a_hash_in_a_string_is_no_comment() -> None:
    assert "t-comment" not in str(coloured('colour = "#ff0000"'))
