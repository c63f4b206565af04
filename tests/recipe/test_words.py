"""Types, values and options in words: what messages, ``ibllm plugins show`` and the documentation print."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest
from ibllm_inspect.options import OptionRow, options_of

from ibllm_core.host.options import Config, option
from ibllm_core.recipe.words import describe, written


@attrs.frozen(kw_only=True)
class Inner(Config):
    start: float = option(0.5, help="where", key="from")


@attrs.frozen(kw_only=True)
class Outer(Config):
    steps: int = option(help="how many", ge=1)
    betas: tuple[float, float] = option((0.9, 0.999), help="decays", ge=0, lt=1)
    inner: Inner | None = option(None, help="a table")
    names: list[str] = option(factory=list, help="some")


def test_options_of_a_class():
    assert options_of(Outer) == [
        OptionRow("steps", "integer", "", ">= 1", "how many", True),
        OptionRow("betas", "array of 2 numbers", "[0.9, 0.999]", ">= 0 and < 1", "decays", False),
        OptionRow("inner", "table { from }", "none", "", "a table", False),
        OptionRow("names", "array of strings", "[]", "", "some", False),
    ]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "an integer"),
        (float | Inner, "a number or a table { from }"),
        (tuple[str, ...], "an array of strings"),
        (Mapping[str, float], "a table, each value a number"),
        (bool, "true or false"),
    ],
)
def test_types_in_words(hint, words):
    assert describe(hint) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), ("a", '"a"'), (1e-3, "0.001"), (("a", "b"), '["a", "b"]'), (Inner(), "{ from = 0.5 }"), (None, "none")],
)
def test_defaults_as_toml(value, text):
    assert written(value) == text
