"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="image_decoder",
            name="flow_vae",
            factory="ibllm_vae.image_decoder:FlowVAE",
            config="ibllm_vae.config:FlowVAEConfig",
            summary="what the text leaves open has a posterior and a flow for its prior; one differentiable pass draws the rest",
        )
    ]
