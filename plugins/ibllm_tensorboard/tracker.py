"""The tracker `tensorboard`. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Recipe, Tracker
from ibllm_tensorboard.config import TensorBoardConfig


class TensorBoardTracker(Tracker):
    """Writes event files with tensorboardX. After a restart TensorBoard is told to forget what lies beyond the restart's step.

    In the thread that trains: what the library's own thread fails at is a traceback that nobody catches, and then a queue that is full for ever.
    """

    def __init__(self, config: TensorBoardConfig, context: Context) -> None:
        self.config = config
        self._writer: Any = None
        self._folder, self._flushed = "", 0.0

    def open(self, run_dir: Path, step: int, recipe: Recipe) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import text

        folder = run_dir / self.config.folder
        folder.mkdir(parents=True, exist_ok=True)
        # A file is called by the second it was opened in, which two may share.
        self._folder, self._writer = str(folder), EventsWriter(str(folder / "events"), f".{step}")
        if step:
            self._write(Event(step=step, file_version="brain.Event:2"))
            self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self._add(text("recipe", f"```toml\n{recipe.source}\n```"), step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._add(scalar(name, value), step)

    def image(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        from tensorboardX.summary import image

        self._add(image(name, pixels, dataformats="HWC"), step)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._named(writer.close)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        assert self._writer is not None, "the tracker is not open"
        self._named(self._writer.write_event, event)
        if time.monotonic() - self._flushed > self.config.flush_seconds:
            self._named(self._writer.flush)
            self._flushed = time.monotonic()

    def _named(self, call: Any, *arguments: Any) -> None:
        """An `OSError` says where."""
        try:
            call(*arguments)
        except OSError as error:
            error.filename = self._folder
            raise
