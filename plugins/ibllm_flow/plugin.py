"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_decoder",
            name="flow",
            factory="ibllm_flow.image_decoder:FlowDecoder",
            config="ibllm_flow.config:FlowConfig",
            summary="rectified flow: a U-Net with a transformer carries noise to an image in a few steps",
        )
    ]
