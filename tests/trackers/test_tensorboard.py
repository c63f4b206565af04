"""Event files hold what was written, and a restart says what to forget; trackers are handed the recipe and every panel's picture."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_tensorboard.config import TensorBoardConfig
from ibllm_tensorboard.tracker import TensorBoardTracker

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.reporting import Panel, Tracker
from ibllm_core.recipe import Recipe, load
from ibllm_core.training.events import Logged, RunClosed, RunEnded
from ibllm_core.training.listeners import Tracking

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def events(folder: Path) -> list[Any]:
    """All events of a folder in the order of writing: records are length (8 bytes), checksum (4), event, checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event()
            event.ParseFromString(data[place + 12 : place + 12 + length])
            found.append(event)
            place += 16 + length
    return found


def write(run_dir: Path, step: int, value: float) -> None:
    tracker = TensorBoardTracker(TensorBoardConfig(), Context())
    tracker.open(run_dir, step, load(TINY))
    tracker.scalars({"loss/image_nll": value, "rate": 0.5}, step)
    tracker.image("samples/novel", np.full((4, 6, 3), 200, np.uint8), step)
    tracker.close()


def test_what_is_written_is_on_disk_after_closing(tmp_path: Path) -> None:
    write(tmp_path, 0, 1.25)
    values = {v.tag: v for event in events(tmp_path / "tensorboard") for v in event.summary.value}
    assert values["loss/image_nll"].simple_value == 1.25
    assert values["rate"].simple_value == 0.5
    assert b'name = "tiny"' in values["recipe/text_summary"].tensor.string_val[0]
    assert (values["samples/novel"].image.height, values["samples/novel"].image.width) == (4, 6)


def test_a_restart_says_from_where_on_to_forget(tmp_path: Path) -> None:
    write(tmp_path, 0, 1.0)
    write(tmp_path, 40, 2.0)
    starts = [event.step for event in events(tmp_path / "tensorboard") if event.HasField("session_log")]
    assert starts == [40]


def test_a_tracker_that_is_not_open_refuses() -> None:
    with pytest.raises(AssertionError, match="not open"):
        TensorBoardTracker(TensorBoardConfig(), Context()).scalars({"a": 1.0}, 0)


class Kept(Tracker):
    """Remembers what it is handed."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def open(self, run_dir: Path, step: int, recipe: Recipe) -> None: ...

    def scalars(self, values: object, step: int) -> None: ...

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:  # type: ignore[type-arg]
        self.calls.append((name, pixels.shape, step))

    def close(self) -> None:
        self.calls.append(("closed",))


def test_pictures_of_panels_reach_trackers_whoever_appends_them() -> None:
    tracker, recipe = Kept(), load(TINY)
    listener, ended = Tracking("kept", recipe.trackers["tensorboard"], tracker), RunEnded({})
    ended.panels.append(Panel(title="attention", picture=np.zeros((4, 6, 3), np.uint8), source="scene, test"))
    listener.on_logged(Logged("result", "end", 0, 40, {}))
    listener.on_run_ended(ended)
    ended.panels.append(Panel(title="a table", header=("x",), rows=[(1,)]))
    ended.panels.append(Panel(title="of a hook", picture=np.zeros((4, 6), np.uint8)))
    listener.on_run_closed(RunClosed(Path("run"), "done"))
    assert tracker.calls == [("panels/attention (scene, test)", (4, 6, 3), 40), ("panels/of a hook", (4, 6, 1), 40), ("closed",)]
