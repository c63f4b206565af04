"""The figures of docs/how-to/scene.md, on a model that makes no mistake and on one that does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scene.conftest import Oracle

DOCS = Path(__file__).parents[2] / "docs" / "_ext"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    import scenes

    yield scenes
    del sys.modules["scenes"]


def test_worlds_without_a_mistake_are_all_right(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibllm.open", lambda path: Oracle())
    found = measured.measure(Path("oracle"), worlds=2, sizes=((8, 2),))
    assert found["things_right"] == found["crossing_right"] == found["regions_read"] == found["regions_right"] == 1
    assert found["crossing"] > 0 and found["seam_most"] == found["inside_most"] == 0


def test_what_is_drawn_wrongly_counts_as_wrong(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Oracle()
    model.drawing.spoiled.update(large="small")
    monkeypatch.setattr("ibllm.open", lambda path: model)
    found = measured.measure(Path("oracle"), worlds=1, sizes=((12, 2),))
    assert 0 < found["things_right"] < 1 and 0 < found["regions_right"] < 1 and found["regions_right"] == found["regions_read"]
