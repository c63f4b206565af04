"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_encoder",
            name="cnn",
            factory="ibllm_cnn.image_encoder:CNNImageEncoder",
            config="ibllm_cnn.config:CNNImageEncoderConfig",
            summary="small residual convolutional network; one latent vector a place of its last map",
        ),
        ComponentSpec(
            kind="image_encoder",
            name="resnet",
            factory="ibllm_cnn.resnet:ResNetImageEncoder",
            config="ibllm_cnn.config:ResNetImageEncoderConfig",
            summary="residual network of basic blocks with group norms; one latent vector a place of its last map",
        ),
        ComponentSpec(
            kind="image_decoder",
            name="cnn",
            factory="ibllm_cnn.image_decoder:CNNImageDecoder",
            config="ibllm_cnn.config:CNNImageDecoderConfig",
            summary="the pooled latent as a small map, upsampled and convolved to the image in one differentiable pass",
        ),
        ComponentSpec(
            kind="text_encoder",
            name="cnn",
            factory="ibllm_cnn.text_encoder:CNNTextEncoder",
            config="ibllm_cnn.config:CNNTextEncoderConfig",
            summary="residual 1-D convolutions over the tokens, dilated and gated",
        ),
    ]
