"""Every loss keeps its contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import torch
from ibllm_adversarial.config import HingeConfig
from ibllm_adversarial.loss import Hinge
from ibllm_graph.backbone import KnowledgeGraph
from ibllm_graph.config import GraphConfig
from ibllm_testing import LossSuite, cover
from ibllm_testing.stand_ins import TinyCodec, TinyCritic
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import (
    BackboneConfig,
    UnifiedImageDecoderConfig,
    UnifiedImageEncoderConfig,
    UnifiedTextDecoderConfig,
    UnifiedTextEncoderConfig,
)
from ibllm_unified.image_decoder import unified_image_decoder
from ibllm_unified.image_encoder import UnifiedImageEncoder
from ibllm_unified.text_decoder import UnifiedTextDecoder
from ibllm_unified.text_encoder import UnifiedTextEncoder
from torch import nn

from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.loss import Loss
from ibllm_core.model.model import Model

#: A graph whose names are made of the letters that the stand-in tokenizer knows.
LETTERS = str(Path(__file__).parents[1] / "graph" / "letters.tsv")
RULES = str(Path(__file__).parents[1] / "logic" / "letters.rules")
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "hinge/augmented": {"options": {"augment": ["color", "translation", "cutout"], "augment_probability": 0.7, "mismatched": 0.5}},
    "relativistic/adaptive": {"options": {"augment": ["translation", "cutout"], "augment_target": 0.6, "augment_images": 100}},
    "robust_consistency/captions": {"options": {"of": "captions"}},
    "answer_nll/sample": {"options": {"per": "sample"}},
    "augmentation_contrast/text": {"options": {"of": "text"}},
    "back_translation/drawn words": {"options": {"temperature": 1.0}},
    "back_translation/text": {"options": {"of": "text"}},
    "cycle_image/sample": {"options": {"per": "sample"}},
    "cycle_latent/l2": {"options": {"distance": "l2"}},
    "damsm/generated": {"options": {"images": "generated", "width": 0}},
    "feature_matching/reconstruction": {"options": {"of": "reconstruction"}},
    "feature_matching/mean": {"options": {"match": "mean"}},
    "gradient_penalty/reconstruction": {"options": {"of": "reconstruction"}},
    "gradient_penalty/both": {"options": {"at": ["real"], "by": "image+latent"}},
    "hinge/mismatched": {"options": {"mismatched": 0.5}},
    "image_nll/l1": {"options": {"kind": "l1", "per": "sample"}},
    "image_nll/l2": {"options": {"kind": "l2"}},
    "image_nll/logistic": {"options": {"kind": "logistic_mixture"}},
    "joint/weighted": {"options": {"lambda": 0.3}},
    "matching": {"options": {"width": 16, "depth": 1}},
    "matching/any": {"options": {"width": 16, "depth": 1, "mismatches": "any"}},
    "matching_aware_penalty/pooled": {"options": {"by": ["pooled"]}},
    "non_saturating/mismatched": {"options": {"mismatched": 0.5}},
    "reconstruction/l1": {"options": {"kind": "l1"}},
    "perceptual/drawing": {"options": {"of": "drawing"}},
    "relativistic/reconstruction": {"options": {"of": "reconstruction"}},
    "relativistic/mismatched": {"options": {"mismatched": 0.5}},
    "rules": {"options": {"file": RULES}},
    "rules/probe": {"options": {"file": RULES, "reader": "probe", "images": ["drawn", "real"], "semantics": "product", "width": 8}},
    "text_nll/sample": {"options": {"per": "sample"}},
    "wgan_gp/no penalty": {"options": {"penalty": 0.0, "mismatched": 0.5}},
}

globals().update(cover(LossSuite, "ibllm", PRESETS, but=("adaptive_weight", "link_prediction", "unified")))


class TestUnified(LossSuite):
    """It goes through a backbone, which no stand-in has: with the smallest of the parts that have one."""

    component = "unified"
    options: ClassVar[dict[str, object]] = {"image_weight": 0.5, "text_weight": 2.0}

    def model(self, device: torch.device, *, by_patch: bool = False, latents: bool = False, seed: int = 5) -> Model:
        context = self.context()
        assert context.tokenizer is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = TinyCodec(context.image_shape)
            tokens = ImageTokens(vocabulary=codec.vocabulary, rows=codec.grid[0], columns=codec.grid[1])
            context = attrs.evolve(context, latent=context.width, image_tokens=tokens)
            lm = UnifiedBackbone(BackboneConfig(depth=1, heads=2), context)
            context = attrs.evolve(context, shared={"lm": lm})
            parts: dict[str, nn.Module] = {
                "text_encoder": UnifiedTextEncoder(UnifiedTextEncoderConfig(backbone="lm"), context),
                "image_decoder": unified_image_decoder(UnifiedImageDecoderConfig(backbone="lm", null=0.3, token_dropout=0.2), context),
                "image_encoder": UnifiedImageEncoder(UnifiedImageEncoderConfig(backbone="lm", patch=8), context),
                "text_decoder": UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm", word_dropout=0.3), context),
                "discriminator": TinyCritic(context.width, context.image_shape[0], by_patch),
                "image_tokenizer": codec,
                "lm": lm,
            }
        tokenizers = {"text_encoder": context.tokenizer, "text_decoder": context.tokenizer}
        return Model(parts, tokenizers, context.image_shape).to(device)


class TestLinkPrediction(LossSuite):
    """It is about a graph, which no stand-in has."""

    component = "link_prediction"
    options: ClassVar[dict[str, object]] = {"facts": 2, "negatives": 3}
    shared: ClassVar[dict[str, dict[str, object]]] = {"facts": {"use": "graph", "path": LETTERS, "width": 6}}

    def model(self, device: torch.device, *, by_patch: bool = False, latents: bool = False, seed: int = 5) -> Model:
        model = super().model(device, by_patch=by_patch, latents=latents, seed=seed)
        with torch.random.fork_rng(devices=[]), device:
            torch.manual_seed(seed)
            model.parts["facts"] = KnowledgeGraph(GraphConfig(path=LETTERS, width=6), self.context()).to(device)
        return model


class TestAdaptiveWeight(LossSuite):
    """Its terms are a loss with two sides, and one that reaches the image decoder as well."""

    component = "adaptive_weight"

    def term(self, number: int) -> Loss:
        return LossSuite.term(0) if number else Hinge(HingeConfig(mismatched=0.5), Context())
