"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="text_encoder",
            name="bag",
            factory="ibllm_bag.text_encoder:BagTextEncoder",
            config="ibllm_bag.config:BagTextEncoderConfig",
            summary="bag of words: the tokens' embeddings and their mean, without order; the floor",
        ),
    ]
