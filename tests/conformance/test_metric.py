"""Every metric keeps its contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ibllm_testing import MetricSuite, cover
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import BackboneConfig

from ibllm_core.interfaces.context import Context
from ibllm_core.model.model import Model

EMOJI = Path(__file__).parents[1] / "emoji" / "archives"
RULES = Path(__file__).parents[2] / "recipes" / "variations" / "scenes.rules"
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    **{name: {"dataset": ("shapes", {"evaluation_size": 64})} for name in ("scene", "caption_facts", "round_trip", "residual")},
    **{name: {"dataset": ("shapes", {"evaluation_size": 64, "questions": True})} for name in ("vqa", "vqg")},
    "placement_spread": {"dataset": ("shapes", {"evaluation_size": 64}), "options": {"draws": 3}},
    "rules": {"dataset": ("shapes", {"evaluation_size": 64}), "options": {"file": str(RULES)}},
    "emoji_styles": {"dataset": ("emoji_styles", {"path": str(EMOJI)}), "split": "concept", "requires": ("resvg_py",)},
    "openmoji_names": {"dataset": ("openmoji", {"size": 32, "bases": 40, "toned": 8}), "split": "tone", "requires": ("emoji",)},
}

globals().update(cover(MetricSuite, "ibllm", PRESETS, but=("clip_score", "text_perplexity")))


class TestTextPerplexity(MetricSuite):
    """It measures a backbone, which no stand-in has."""

    component = "text_perplexity"
    options: Mapping[str, Any] = {"backbone": "lm"}
    shared: Mapping[str, Mapping[str, Any]] = {"lm": {"use": "unified", "depth": 1, "heads": 2}}

    def model(self, device: torch.device, shape: tuple[int, int, int], seed: int = 5) -> Model:
        model = super().model(device, shape, seed)
        tokenizer = model.tokenizers["text_decoder"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lm = UnifiedBackbone(BackboneConfig(depth=1, heads=2), Context(width=16, vocabularies={"text_decoder": tokenizer.size}))
        lm.speak(tokenizer)
        model.parts["lm"] = lm.to(device)
        return model
