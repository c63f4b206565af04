"""The options of the unified parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, check_heads, option


@attrs.frozen(kw_only=True)
class BackboneConfig(Config):
    """The transformer that both directions share."""

    width: int | None = option(None, help="d, width of its layers; follows model.width when left out", ge=1)
    depth: int = option(6, help="layers", ge=1)
    heads: int = option(4, help="attention heads, of a width that 8 divides", ge=1)
    ratio: float = option(2.0, help="width of a layer's gated feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1)


@attrs.frozen(kw_only=True)
class TextDecoderConfig(Config):
    word_dropout: float = option(0.0, help="", ge=0, lt=1)


@attrs.frozen(kw_only=True)
class TokenOptions(Config):
    factored: bool = option(True, help="")
    null: float = option(0.0, help="")
    guidance: float = option(1.0, help="", live=True)
    temperature: float = option(0.25, help="", live=True)
    top_p: float = option(1.0, help="", live=True)
    steps: int = option(8, help="", live=True)
    choice: float = option(4.5, help="", live=True)
