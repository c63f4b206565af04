"""The metric of a pretrained pair keeps its contract; tests/conformance/test_pretrained.py has the parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_testing import MetricSuite


class TestClipScore(MetricSuite):
    component = "clip_score"

    @pytest.fixture(autouse=True)
    def _model(self, model_folder: Callable[[str], Path]) -> None:
        pytest.importorskip("transformers")
        self.options = {"model": str(model_folder("clip"))}
