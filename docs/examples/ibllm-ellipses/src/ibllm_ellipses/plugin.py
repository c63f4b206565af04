"""What this package offers. Torch-free: this module is loaded whenever plugins are listed."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_decoder",
            name="ellipses",
            factory="ibllm_ellipses.image_decoder:EllipseDecoder",
            config="ibllm_ellipses.config:EllipseDecoderConfig",
            summary="paints with soft ellipses, one over the other; its drawings are vector graphics",
        ),
        ComponentSpec(
            kind="loss",
            name="edges",
            factory="ibllm_ellipses.loss:EdgeLoss",
            config="ibllm_ellipses.config:EdgeLossConfig",
            summary="differences of neighbouring pixels are as large in the drawn image as in the real one",
        ),
    ]
