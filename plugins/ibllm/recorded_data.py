"""The data that a recorded recipe was run on, for components that build on them. Torch-free to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs

from ibllm_core.host.manager import manager
from ibllm_core.host.options import DatasetConfig
from ibllm_core.recipe import load

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset

__all__ = ["RecordedData", "recorded_data"]


@attrs.frozen
class RecordedData:
    """A dataset's name and its options."""

    use: str
    config: DatasetConfig

    def build(self, seed: int) -> Dataset:
        """The dataset with another seed for what it draws."""
        from ibllm_core.interfaces.context import Context

        return cast("Dataset", manager().factory("dataset", self.use)(self.config, Context(seed=seed)))


def recorded_data(recipe: Path) -> RecordedData:
    """The data of a recipe that a run recorded (its ``recipe.toml``). Raises `UserError` where it cannot be read here."""
    component = load(recipe, recorded=True).data
    assert isinstance(component.config, DatasetConfig)
    return RecordedData(component.use, component.config)
