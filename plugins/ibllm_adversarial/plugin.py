"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="loss",
            name="relativistic",
            factory="ibllm_adversarial.loss:Relativistic",
            config="ibllm_adversarial.config:RelativisticConfig",
            summary="a critic compares each generated image with its real one (relativistic pairing, R3GAN)",
        ),
        ComponentSpec(
            kind="loss",
            name="gradient_penalty",
            factory="ibllm_adversarial.loss:GradientPenalty",
            config="ibllm_adversarial.config:GradientPenaltyConfig",
            summary="zero-centred penalty on the critic's gradient at real and generated images (R1 + R2)",
        ),
    ]
