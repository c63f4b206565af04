"""The weight of an adversarial loss that balances it with a reconstruction. Shapes: g numbers of a layer's weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Loss, at_least_float32
from ibllm_adversarial.config import AdaptiveWeightConfig

#: Keeps the division from 0 (the code of Esser et al. 2021).
TINY = 1e-4


class AdaptiveWeight(Loss):
    """λ·L_of with λ = ‖∇L_against‖ / (‖∇L_of‖ + 10⁻⁴), gradients by the weight of the decoder's last layer (VQGAN: Esser et al. 2021, eq. 7, and code).

    λ is a number: no gradient goes through it. It is that of the whole batch, over micro-batches and ranks: with several shares, each is computed once
    more, with its graph. A held-out loss, which has no gradients, has the λ of the last iteration.
    """

    composite = True
    weight: Tensor

    def __init__(self, config: AdaptiveWeightConfig, context: Context) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight", torch.ones(()))

    def forward(self, cycle: Cycle) -> Tensor:
        config = self.config
        if not torch.is_grad_enabled():
            return self.weight * cycle.value(config.of)
        (of, against), _ = cycle.whole(f"ibllm_adversarial.adaptive.{config.of}.{config.against}.{config.part}", self._gradients)
        norms = [torch.linalg.vector_norm(rows.mean(0)) for rows in (of, against)]
        weight = (norms[1] / (norms[0] + TINY)).clamp(max=config.limit).detach()
        cycle.log("weight", weight)
        self.weight.copy_(weight)
        return weight * cycle.value(config.of)

    def _gradients(self, share: Cycle) -> tuple[Tensor, Tensor]:
        """(1 g) each: gradients of both values of a share by the layer's weight."""
        layer = self._layer(share.model.part(self.config.part))
        if not layer.requires_grad:  # another part is trained alone
            return tuple(layer.new_zeros(1, layer.numel()) for _ in range(2))  # type: ignore[return-value]
        found = []
        with torch.enable_grad():
            for name in (self.config.of, self.config.against):
                (gradient,) = torch.autograd.grad(share.value(name), layer, retain_graph=True, allow_unused=True)
                if gradient is None:
                    raise ValueError(f"layer: the loss {name} does not reach the weight of {self.config.layer or 'the last layer'}")
                found.append(at_least_float32(gradient.detach()).reshape(1, -1))
        return found[0], found[1]

    def _layer(self, part: nn.Module) -> Tensor:
        """The weight by which gradients are compared: by default the last that is a matrix or more."""
        if self.config.layer:
            return part.get_parameter(self.config.layer)
        return [p for p in part.parameters() if p.dim() > 1][-1]
