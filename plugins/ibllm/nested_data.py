"""Data that a dataset is made of: a table within its options that says ``use``. Torch-free to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from ibllm_core.host.manager import manager
from ibllm_core.host.options import DatasetConfig, OptionError
from ibllm_core.recipe.words import structure

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset

__all__ = ["NestedData", "nested_data"]


@attrs.frozen
class NestedData:
    """A dataset's name and its options."""

    use: str
    config: DatasetConfig

    def build(self, seed: int) -> Dataset:
        """The dataset."""
        from ibllm_core.interfaces.context import Context

        return cast("Dataset", manager().factory("dataset", self.use)(self.config, Context(seed=seed)))


def nested_data(option: str, table: Mapping[str, Any]) -> NestedData:
    """The dataset that a table names, as ``[data]`` does; its paths are relative to the working directory.

    Args:
        option: the name of the option that holds the table, for messages.

    Raises:
        OptionError: it names no dataset, or one of its options is wrong.
    """
    use = table.get("use")
    if not isinstance(use, str) or use not in manager().names("dataset"):
        raise OptionError(option, dict(table), f"a table with use = one of {', '.join(manager().names('dataset'))}")
    made = structure(manager().config_class("dataset", use), {key: value for key, value in table.items() if key != "use"})
    if isinstance(made, list):
        wrong = [
            f"{'.'.join(map(str, flaw.path))}: {flaw.what}" + (f", expected {flaw.expected}" if flaw.expected else "") for flaw in made
        ]
        raise OptionError(option, dict(table), f"options of dataset.{use} ({'; '.join(wrong)})")
    return NestedData(use, cast(DatasetConfig, made))
