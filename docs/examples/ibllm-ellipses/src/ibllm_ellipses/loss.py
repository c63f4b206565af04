"""The loss of edges. Shapes: b batch, c h w image in [−1, 1]."""

from __future__ import annotations

from ibllm.plugin import Context, Cycle, Loss, Value
from torch import Tensor

from ibllm_ellipses.config import EdgeLossConfig


class EdgeLoss(Loss):
    """The image gradient difference loss (Mathieu, Couprie and LeCun 2016, eq. 6), a mean over pixels: Σ over both directions of

    | |y_i − y_{i−1}| − |ŷ_i − ŷ_{i−1}| |^α, for neighbours i and i − 1 of the real image y and the drawn image ŷ.
    """

    def __init__(self, config: EdgeLossConfig, context: Context) -> None:
        super().__init__()
        self.exponent = config.exponent

    def forward(self, cycle: Cycle) -> Value:
        return gradient_difference(cycle.y, cycle.y_fake, self.exponent).mean()


def gradient_difference(y: Tensor, drawn: Tensor, exponent: float) -> Tensor:
    """(b) the mean difference of vertical edges plus that of horizontal ones, in float32."""
    return sum(
        ((y.float().diff(dim=axis).abs() - drawn.float().diff(dim=axis).abs()).abs().pow(exponent).flatten(1).mean(1) for axis in (-2, -1)),
        start=y.new_zeros(len(y)),
    )
