"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


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
    ]
