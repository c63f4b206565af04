"""A component's options as rows: for ``ibllm plugins show``, the documentation and the conformance kit. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs

from ibllm_core.host.options import Config
from ibllm_core.recipe.words import describe, keys, types_of, written


@attrs.frozen
class OptionRow:
    """One option: its key in a recipe, its type in TOML's words, its default as TOML would write it, its range and its meaning."""

    key: str
    type: str
    default: str
    range: str
    help: str
    required: bool
    live: bool | str = False

    @property
    def facts(self) -> tuple[str, ...]:
        """Range, and when it may be changed."""
        moves = "may move in training" if self.live == "training" else "may move in training, and be changed in use" if self.live else ""
        return tuple(filter(None, (self.range, moves)))


def options_of(config: type[Config]) -> list[OptionRow]:
    """The options in the order in which the class declares them."""
    rows, hints = [], types_of(config)
    for key, field in keys(config).items():
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # attrs types Factory as a function
            assert not default.takes_self, "option() offers factories without arguments only"
            default = default.factory()
        required, facts = default is attrs.NOTHING, field.metadata
        words = describe(hints[field.name]).removeprefix("an ").removeprefix("a ")
        shown = "" if required else written(default)
        rows.append(OptionRow(key, words, shown, facts.get("range", ""), facts.get("help", ""), required, facts.get("live", False)))
    return rows
