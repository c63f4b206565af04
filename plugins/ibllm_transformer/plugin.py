"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


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
        ComponentSpec(
            kind="image_encoder",
            name="vit",
            factory="ibllm_transformer.image_encoder:ViTImageEncoder",
            config="ibllm_transformer.config:ViTImageEncoderConfig",
            summary="pre-norm transformer over the image's patches",
        ),
        ComponentSpec(
            kind="image_decoder",
            name="vq_transformer",
            factory="ibllm_transformer.vq_transformer:VQTransformer",
            config="ibllm_transformer.config:VQTransformerConfig",
            summary="causal transformer over text and image tokens; exact likelihood, classifier-free guidance, key–value cache",
        ),
        ComponentSpec(
            kind="image_decoder",
            name="maskgit",
            factory="ibllm_transformer.maskgit:MaskGIT",
            config="ibllm_transformer.config:MaskGITConfig",
            summary="transformer that fills in masked image tokens in a few parallel passes; a bound as likelihood, classifier-free guidance",
        ),
        ComponentSpec(
            kind="backbone",
            name="transformer",
            factory="ibllm_transformer.backbone:TransformerBackbone",
            config="ibllm_transformer.config:TransformerBackboneConfig",
            summary="pre-norm transformer layers for words and patches alike",
        ),
        ComponentSpec(
            kind="loss",
            name="caption_image_nll",
            factory="ibllm_transformer.loss:CaptionImageNLL",
            config="ibllm_transformer.config:CaptionImageNLLConfig",
            summary="text and image as one sequence, both predicted token by token (DALL-E)",
        ),
    ]
