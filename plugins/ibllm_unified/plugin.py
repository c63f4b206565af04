"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="backbone",
            name="unified",
            factory="ibllm_unified.backbone:UnifiedBackbone",
            config="ibllm_unified.config:BackboneConfig",
            summary="one causal transformer over text and image, for the unified parts",
        ),
        ComponentSpec(
            kind="backbone",
            name="unified_pretrained",
            factory="ibllm_unified.pretrained:PretrainedBackbone",
            config="ibllm_unified.config:PretrainedBackboneConfig",
            summary="a pretrained causal language model as the layers of the unified parts",
        ),
        ComponentSpec(
            kind="text_encoder",
            name="unified",
            factory="ibllm_unified.text_encoder:UnifiedTextEncoder",
            config="ibllm_unified.config:UnifiedTextEncoderConfig",
            summary="the backbone's embedding of a text, which the image decoder reads",
        ),
        ComponentSpec(
            kind="image_decoder",
            name="unified",
            factory="ibllm_unified.image_decoder:unified_image_decoder",
            config="ibllm_unified.config:UnifiedImageDecoderConfig",
            summary="text, then image through the backbone: tokens one by one, masked tokens, or a flow over patches",
        ),
        ComponentSpec(
            kind="image_encoder",
            name="unified",
            factory="ibllm_unified.image_encoder:UnifiedImageEncoder",
            config="ibllm_unified.config:UnifiedImageEncoderConfig",
            summary="the image's patches, embedded, which the text decoder reads",
        ),
        ComponentSpec(
            kind="text_decoder",
            name="unified",
            factory="ibllm_unified.text_decoder:UnifiedTextDecoder",
            config="ibllm_unified.config:UnifiedTextDecoderConfig",
            summary="image, then text through the backbone; exact likelihood, key–value cache",
        ),
        ComponentSpec(
            kind="loss",
            name="unified",
            factory="ibllm_unified.loss:Unified",
            config="ibllm_unified.config:UnifiedConfig",
            summary="both orders of text and image in one pass through the backbone",
        ),
        ComponentSpec(
            kind="metric",
            name="text_perplexity",
            factory="ibllm_unified.metric:TextPerplexity",
            config="ibllm_unified.config:TextPerplexityConfig",
            summary="what the backbone knows of texts alone, and what a pretrained one knew before",
        ),
    ]
