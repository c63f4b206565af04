"""Every backbone keeps its contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ibllm_testing import BackboneSuite, cover
from ibllm_testing.checks import has_shape
from ibllm_testing.inputs import Inputs
from ibllm_unified.sequence import Order, Piece, text_coordinates
from torch import Tensor

PRESETS: dict[str, dict[str, object]] = {"transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "width": 8}}}

globals().update(cover(BackboneSuite, "ibllm", PRESETS, but=("graph", "unified", "unified_pretrained")))


class TestUnified(BackboneSuite):
    """Called as its borrowers call it: a text after an image, and the other way round, in one pass."""

    component = "unified"
    options: Mapping[str, Any] = {"depth": 1, "heads": 2, "dropout": 0.1}

    def _orders(self, part: Any, m: Inputs) -> list[Order]:
        text = Piece(part.embed(m.x.ids), m.x.mask, text_coordinates(m.x.ids.shape[1], m.y.device))
        image = Piece(m.z.tokens, m.z.mask, text_coordinates(m.z.mask.shape[1], m.y.device))
        draw, read = part.task("draw", len(m)), part.task("read", len(m))
        return [Order([text, draw, image], 2), Order([image, read, text], 0)]

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        image, text = part.hidden(self._orders(part, m))
        return {"image": image * m.z.mask.unsqueeze(-1), "text": part.words(text) * m.x.mask.unsqueeze(-1)}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        image, text = part.hidden(self._orders(part, m))
        has_shape("image", image, "b n d", (*m.z.mask.shape, part.width))
        has_shape("text", text, "b t d", (*m.x.mask.shape, part.width))


class TestGraph(BackboneSuite):
    """Called as its borrowers call it: what it knows of a text's tokens, and how plausible a fact is."""

    component = "graph"
    options: Mapping[str, Any] = {
        "path": str(Path(__file__).parents[1] / "graph" / "letters.tsv"),
        "width": 6,
        "layers": 1,
        "embedding": "rotate",
    }

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        facts, _, there = part(m.x.ids)
        every = torch.arange(len(part.graph.entities), device=m.y.device)
        scores = part.score(every, torch.zeros_like(every), every.flip(0)) + part.score(every, torch.ones_like(every), every)
        # A row for each item, so that what does not depend on the batch is the same in any.
        return {"facts": facts * m.x.mask[..., None, None], "there": there & m.x.mask.unsqueeze(-1), "scores": scores.expand(len(m), -1)}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        facts, kinds, there = part(m.x.ids)
        has_shape("kinds", kinds, "b t m", (*m.x.ids.shape, part.slots))
        has_shape("facts", facts, "b t m k", (*m.x.ids.shape, part.slots, part.width))
        has_shape("there", there, "b t m", (*m.x.ids.shape, part.slots))
