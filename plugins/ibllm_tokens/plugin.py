"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_tokenizer",
            name="vq",
            factory="ibllm_tokens.image_tokenizer:VQTokenizer",
            config="ibllm_tokens.config:VQConfig",
            summary="convolutional autoencoder over a learned codebook, whose dead codes are restarted (VQ-VAE)",
        ),
        ComponentSpec(
            kind="image_tokenizer",
            name="fsq",
            factory="ibllm_tokens.image_tokenizer:FSQTokenizer",
            config="ibllm_tokens.config:FSQConfig",
            summary="convolutional autoencoder whose few numbers a place are rounded to levels, without a codebook (FSQ)",
        ),
        ComponentSpec(
            kind="image_tokenizer",
            name="kl",
            factory="ibllm_tokens.latent_codec:KLCodec",
            config="ibllm_tokens.config:KLConfig",
            summary="convolutional variational autoencoder that gives continuous latents, regularised by a KL term (latent diffusion's)",
        ),
        ComponentSpec(
            kind="metric",
            name="reconstruction",
            factory="ibllm_tokens.metric:ReconstructionMetric",
            config="ibllm_tokens.config:ReconstructionMetricConfig",
            summary="how much of an image survives the codec",
        ),
        ComponentSpec(
            kind="metric",
            name="code_usage",
            factory="ibllm_tokens.metric:CodeUsage",
            config="ibllm_tokens.config:CodeUsageConfig",
            summary="how many different image tokens are used",
        ),
    ]
