"""Both orders of text and image in one pass. Shapes: b batch."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss
from ibllm_unified.config import UnifiedConfig
from ibllm_unified.text_decoder import UnifiedTextDecoder
from ibllm_unified.writing import Writer


class Unified(Loss):
    """−w·log p(y|x) − w'·log p(x|y), in nats an item: `image_nll` and `text_nll`, of one pass through the backbone in place of two."""

    def __init__(self, config: UnifiedConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def forward(self, cycle: Cycle) -> Tensor:
        image, text = self._both(cycle)
        cycle.log("image", image.mean())
        cycle.log("text", text.mean())
        return (self.config.image_weight * image + self.config.text_weight * text).mean()

    def _both(self, cycle: Cycle) -> tuple[Tensor, Tensor]:
        """(b) −log p(y|x) and (b) −log p(x|y)."""
        draws, reads = cast(Writer, cycle.model.part("image_decoder")), cast(UnifiedTextDecoder, cycle.model.part("text_decoder"))
        if draws.backbone is not reads.backbone:
            raise ValueError(
                "the image decoder and the text decoder name two backbones: expected one, or the losses image_nll and text_nll in place of unified"
            )
        z_x, z_y, target, rng = cycle.z_x, cycle.z_y, cycle.target, cycle.rng("image_nll")

        def both() -> tuple[Tensor, Tensor]:
            orders = [draws.order(target, z_x, rng), reads.order(cycle.x_out, z_y)]
            image, text = (order.finish(hidden) for order, hidden in zip(orders, draws.backbone.hidden(orders), strict=True))
            return image, text

        return cycle.once("ibllm_unified.both", both, "image_decoder")
