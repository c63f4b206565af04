"""What trackers are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ibllm_core.interfaces.reporting import Tracker
from ibllm_core.recipe import load

from .checks import expect
from .suite import Suite

TINY = Path(__file__).with_name("tiny.toml")


class TrackerSuite(Suite):
    """Where figures are written."""

    kind = "tracker"

    def written(self, tracker: Any, run_dir: Path, step: int) -> None:
        """One session: a recipe, a figure, a picture, the end."""
        tracker.open(run_dir, step, load(TINY))
        tracker.scalars({"loss/image_nll": 0.5, "lr/model": 1e-3}, step + 1)
        tracker.image("samples", np.zeros((8, 8, 3), np.uint8), step + 1)
        tracker.close()

    def test_figures_are_on_disk_when_it_is_closed(self, tmp_path: Path) -> None:
        """Something was written into the run directory."""
        run = tmp_path / "run"
        run.mkdir()
        tracker = self.make()
        expect(isinstance(tracker, Tracker), f"{self._name}: its factory gives a {type(tracker).__name__}, no Tracker")
        self.written(tracker, run, 0)
        files = [path for path in run.rglob("*") if path.is_file() and path.stat().st_size]
        expect(bool(files), f"{self._name}: after close there is nothing in the run directory")

    def test_it_writes_nowhere_else(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing outside the run directory, the working directory included."""
        run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
        run.mkdir()
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        self.written(self.make(), run, 0)
        stray = [path for path in tmp_path.rglob("*") if path.is_file() and run not in path.parents]
        expect(not stray, f"{self._name}: it wrote {', '.join(map(str, stray))}, outside the run directory")

    def test_closing_twice_does_no_harm(self, tmp_path: Path) -> None:
        """`close` can be called again, and before anything was opened."""
        tracker = self.make()
        tracker.close()
        self.written(tracker, tmp_path, 0)
        tracker.close()

    def test_it_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        """Opened again in the same directory at a later step it writes on."""
        self.written(self.make(), tmp_path, 0)
        before = _size(tmp_path)
        self.written(self.make(), tmp_path, 7)
        expect(_size(tmp_path) > before, f"{self._name}: opened again at step 7 it writes nothing more")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
