"""Options in words: what ``ibllm plugins show`` and the documentation print."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from ibllm_core.host.options import Config, option
from ibllm_core.recipe.describe import OptionRow, options_of, toml, type_in_words


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
        OptionRow("betas", "list of 2 numbers", "[0.9, 0.999]", ">= 0 and < 1", "decays", False),
        OptionRow("inner", "table", "none", "", "a table", False),
        OptionRow("names", "list of strings", "[]", "", "some", False),
    ]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "integer"),
        (float | Inner, "number or table"),
        (tuple[str, ...], "list of strings"),
        (Mapping[str, float], "table"),
        (bool, "true or false"),
    ],
)
def test_types_in_words(hint, words):
    assert type_in_words(hint) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), ("a", '"a"'), (1e-3, "0.001"), (("a", "b"), '["a", "b"]'), (Inner(), "{ from = 0.5 }"), (None, "none")],
)
def test_defaults_as_toml(value, text):
    assert toml(value) == text
