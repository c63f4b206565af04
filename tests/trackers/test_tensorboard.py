"""Event files hold what was written, and a restart says what to forget."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_tensorboard.config import TensorBoardConfig
from ibllm_tensorboard.tracker import TensorBoardTracker

from ibllm_core.interfaces.context import Context


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
    tracker.open(run_dir, step)
    tracker.scalars({"loss/image_nll": value, "rate": 0.5}, step)
    tracker.image("samples/novel", np.full((4, 6, 3), 200, np.uint8), step)
    tracker.close()


def test_what_is_written_is_on_disk_after_closing(tmp_path: Path) -> None:
    write(tmp_path, 0, 1.25)
    values = {v.tag: v for event in events(tmp_path / "tensorboard") for v in event.summary.value}
    assert values["loss/image_nll"].simple_value == 1.25
    assert values["rate"].simple_value == 0.5
    assert (values["samples/novel"].image.height, values["samples/novel"].image.width) == (4, 6)


def test_a_restart_says_from_where_on_to_forget(tmp_path: Path) -> None:
    write(tmp_path, 0, 1.0)
    write(tmp_path, 40, 2.0)
    starts = [event.step for event in events(tmp_path / "tensorboard") if event.HasField("session_log")]
    assert starts == [40]


def test_a_tracker_that_is_not_open_refuses() -> None:
    with pytest.raises(AssertionError, match="not open"):
        TensorBoardTracker(TensorBoardConfig(), Context()).scalars({"a": 1.0}, 0)
