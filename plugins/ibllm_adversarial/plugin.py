"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(name: str, module: str, class_: str, summary: str, make: str = "") -> ComponentSpec:
    factory, config = f"ibllm_adversarial.{module}:{make or class_}", f"ibllm_adversarial.config:{class_}Config"
    return ComponentSpec(kind="loss", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec(
            "relativistic", "loss", "Relativistic", "a critic compares each generated image with its real one (relativistic pairing, R3GAN)"
        ),
        _spec("hinge", "loss", "Hinge", "a critic pushes scores beyond a margin on either side (hinge loss, SAGAN, DF-GAN)"),
        _spec("non_saturating", "loss", "NonSaturating", "a critic tells real from generated as a logistic classifier (the original GAN)"),
        _spec("wgan_gp", "loss", "WGANGP", "a critic of bounded slope measures the Wasserstein distance (WGAN-GP)"),
        _spec(
            "adaptive_weight", "adaptive", "AdaptiveWeight", "an adversarial loss, weighed by gradients at the decoder's last layer (VQGAN)"
        ),
        _spec(
            "feature_matching",
            "feature_matching",
            "FeatureMatching",
            "the generated image looks to the critic like the real one, layer by layer",
            make="feature_matching",
        ),
        _spec(
            "gradient_penalty",
            "penalty",
            "GradientPenalty",
            "zero-centred penalty on the critic's gradient at real and generated images (R1 + R2)",
        ),
        _spec(
            "matching_aware_penalty",
            "penalty",
            "MatchingAwarePenalty",
            "penalty on the critic's gradient by image and caption at real pairs (MA-GP, DF-GAN)",
        ),
    ]
