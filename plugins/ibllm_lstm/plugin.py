"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="text_encoder",
            name="lstm",
            factory="ibllm_lstm.text_encoder:LSTMTextEncoder",
            config="ibllm_lstm.config:LSTMTextEncoderConfig",
            summary="LSTM layers over the tokens, in one direction or both",
        ),
        ComponentSpec(
            kind="text_decoder",
            name="lstm",
            factory="ibllm_lstm.text_decoder:LSTMTextDecoder",
            config="ibllm_lstm.config:LSTMTextDecoderConfig",
            summary="LSTM layers that start from the image's pooled latent and attend to its places",
        ),
    ]
