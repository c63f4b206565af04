"""The tracker `tensorboard`. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Recipe, Tracker
from ibllm_tensorboard.config import TensorBoardConfig

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoardTracker(Tracker):
    """Writes event files with tensorboardX. After a restart TensorBoard is told to forget what lies beyond the restart's step."""

    def __init__(self, config: TensorBoardConfig, context: Context) -> None:
        self.config = config
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        assert self._writer is not None, "the tracker is not open"
        return self._writer

    def open(self, run_dir: Path, step: int, recipe: Recipe) -> None:
        from tensorboardX import SummaryWriter

        folder = str(run_dir / self.config.folder)
        self._writer = SummaryWriter(folder, purge_step=step or None, flush_secs=self.config.flush_seconds)
        self._writer.add_text("recipe", f"```toml\n{recipe.source}\n```", step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
