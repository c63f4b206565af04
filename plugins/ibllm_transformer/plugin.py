"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="text_encoder",
            name="transformer",
            factory="ibllm_transformer.text_encoder:TransformerTextEncoder",
            config="ibllm_transformer.config:TransformerTextEncoderConfig",
            summary="pre-norm transformer over all tokens of a text",
        ),
        ComponentSpec(
            kind="text_decoder",
            name="transformer",
            factory="ibllm_transformer.text_decoder:TransformerTextDecoder",
            config="ibllm_transformer.config:TransformerTextDecoderConfig",
            summary="causal transformer that attends to the image's latent; writes with a key–value cache",
        ),
    ]
