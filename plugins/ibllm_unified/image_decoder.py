"""D_y: [text][draw][image] through the shared backbone, in one of three ways."""

from __future__ import annotations

from ibllm.plugin import Context
from ibllm_unified.autoregressive import AutoregressiveWriter
from ibllm_unified.config import UnifiedImageDecoderConfig
from ibllm_unified.flow import FlowWriter
from ibllm_unified.masked import MaskedWriter
from ibllm_unified.writing import Writer

WAYS: dict[str, type[AutoregressiveWriter] | type[MaskedWriter] | type[FlowWriter]] = {
    "autoregressive": AutoregressiveWriter,
    "masked": MaskedWriter,
    "flow": FlowWriter,
}


def unified_image_decoder(config: UnifiedImageDecoderConfig, context: Context) -> Writer:
    """The decoder that writes as the options say."""
    return WAYS[config.writes](config, context)
