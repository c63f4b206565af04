"""The metric of a pretrained pair keeps its contract; tests/conformance/test_pretrained.py has the parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
from ibllm_testing import ImageTokenizerSuite, MetricSuite


class TestClipScore(MetricSuite):
    component = "clip_score"

    @pytest.fixture(autouse=True)
    def _model(self, model_folder: Callable[[str], Path]) -> None:
        pytest.importorskip("transformers")
        self.options = {"model": str(model_folder("clip"))}


class TestTokens(ImageTokenizerSuite):
    """What other options cannot change is asked of one codec."""

    component = "pretrained"
    kind_of, own = "vq", MappingProxyType({"gives": "tokens", "mode": "tuned"})
    test_compiled_it_gives_the_same = None

    @pytest.fixture(autouse=True)
    def _model(self, codec_folder: Callable[[str], Path]) -> None:
        self.options = {"model": str(codec_folder(self.kind_of)), **self.own}


class TestLatents(TestTokens):
    kind_of, own = "kl", MappingProxyType({"gives": "latents", "mode": "tuned"})
    test_it_is_listed_without_torch = None
