"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_encoder",
            name="seed",
            factory="ibllm_seed.image_encoder:SeedImageEncoder",
            config="ibllm_seed.config:SeedImageEncoderConfig",
            summary="the article's image encoder: one 3×3 convolution, averaged over a grid",
        ),
        ComponentSpec(
            kind="image_decoder",
            name="seed",
            factory="ibllm_seed.image_decoder:SeedImageDecoder",
            config="ibllm_seed.config:SeedImageDecoderConfig",
            summary="the article's image decoder: the latent at every pixel, one 3×3 convolution",
        ),
    ]
