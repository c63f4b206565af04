"""Every loss keeps its contract."""

from __future__ import annotations

from ibllm_testing import LossSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
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
    "joint/ramp": {"options": {"lambda": {"from": 0.0, "to": 2.0, "over": 10}}},
    "matching": {"options": {"width": 16, "depth": 1}},
    "matching/any": {"options": {"width": 16, "depth": 1, "mismatches": "any"}},
    "matching_aware_penalty/pooled": {"options": {"by": ["pooled"]}},
    "non_saturating/mismatched": {"options": {"mismatched": 0.5}},
    "reconstruction/l1": {"options": {"kind": "l1"}},
    "perceptual/drawing": {"options": {"of": "drawing"}},
    "relativistic/reconstruction": {"options": {"of": "reconstruction"}},
    "relativistic/mismatched": {"options": {"mismatched": 0.5}},
    "text_nll/sample": {"options": {"per": "sample"}},
    "wgan_gp/no penalty": {"options": {"penalty": 0.0, "mismatched": 0.5}},
}

globals().update(cover(LossSuite, "ibllm", PRESETS))
