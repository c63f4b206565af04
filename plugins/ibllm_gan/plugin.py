"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_decoder",
            name="cross_attention",
            factory="ibllm_gan.image_decoder:CrossAttentionGenerator",
            config="ibllm_gan.config:CrossAttentionGeneratorConfig",
            summary="one-shot conditional generator whose patches attend to the text's tokens",
        ),
        ComponentSpec(
            kind="discriminator",
            name="matching_aware",
            factory="ibllm_gan.discriminator:MatchingAwareCritic",
            config="ibllm_gan.config:MatchingAwareCriticConfig",
            summary="convolutional critic whose places attend to the text's tokens; twice differentiable",
        ),
    ]
