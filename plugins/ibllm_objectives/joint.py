"""The method's composite objective."""

from __future__ import annotations

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss
from ibllm_objectives.config import JointConfig


class Joint(Loss):
    """L_joint = L_text + λ·L_image, with L_text = −log p(y|x) and L_image = −log p(x|y)."""

    composite = True

    def __init__(self, config: JointConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    @property
    def weight(self) -> float:
        """λ now."""
        return self.config.lambda_ * self.balance

    def forward(self, cycle: Cycle) -> Tensor:
        return cycle.value(self.config.text) + cycle.at(lambda _: self.weight) * cycle.value(self.config.image)
