"""The method's composite objective."""

from __future__ import annotations

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss, weight_at
from ibllm_objectives.config import JointConfig


class Joint(Loss):
    """L_joint = L_text + λ·L_image, with L_text = −log p(y|x) and L_image = −log p(x|y)."""

    composite = True

    def __init__(self, config: JointConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def weight(self, step: int) -> float:
        """λ at a stage's step."""
        return weight_at(self.config.lambda_, step) * self.balance

    def forward(self, cycle: Cycle) -> Tensor:
        return cycle.value(self.config.text) + cycle.at(self.weight) * cycle.value(self.config.image)
