"""An adversarial loss with the weight that balances it with a reconstruction. Shapes: g numbers of a layer's weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import AdversarialLoss, Context, Cycle, Value, at_least_float32
from ibllm_adversarial.config import AdaptiveWeightConfig

#: Keeps the division from 0 (the code of Esser et al. 2021).
TINY = 1e-4


class AdaptiveWeight(AdversarialLoss):
    """Model: L_against + s·λ·L_of with λ = ‖∇L_against‖ / (‖∇L_of‖ + 10⁻⁴), gradients by the weight of the decoder's last layer (VQGAN: Esser et al.
    2021, eq. 7, and code), s `scale`. Critic: its side of L_of.

    λ is a number: no gradient goes through it. It is that of the whole batch, over micro-batches and ranks: with several shares, each is computed once
    more, with its graph. A held-out loss, which has no gradients, has the λ of the last iteration.
    """

    composite = True
    weight: Tensor

    def __init__(self, config: AdaptiveWeightConfig, context: Context) -> None:
        super().__init__()
        self.config, self._found = config, ""
        self.register_buffer("weight", torch.ones(()))

    def forward(self, cycle: Cycle) -> Tensor:
        config = self.config
        if not torch.is_grad_enabled():
            return cycle.value(config.against) + config.scale * self.weight * cycle.value(config.of)
        (of, against), _ = cycle.whole(f"ibllm_adversarial.adaptive.{config.of}.{config.against}.{config.part}", self._gradients)
        norms = [torch.linalg.vector_norm(rows.mean(0)) for rows in (of, against)]
        weight = (norms[1] / (norms[0] + TINY)).clamp(max=config.limit).detach()
        cycle.log("weight", weight)
        self.weight.copy_(weight)
        return cycle.value(config.against) + config.scale * weight * cycle.value(config.of)

    def critic(self, cycle: Cycle) -> Value:
        of = cycle.losses[self.config.of]
        if not isinstance(of, AdversarialLoss):
            raise ValueError(f"of = {self.config.of!r}: expected an adversarial loss, with a side for the critic")
        return of.critic(cycle)

    def _gradients(self, share: Cycle) -> tuple[Tensor, Tensor]:
        """(1 g) each: gradients of both values of a share by the layer's weight."""
        part = share.model.part(self.config.part)
        if not any(p.requires_grad for p in part.parameters()):  # another part is trained alone
            nothing = next(part.parameters()).new_zeros(1, 1)
            return nothing, nothing
        with torch.enable_grad():
            of, against = share.value(self.config.of), share.value(self.config.against)
            layer = part.get_parameter(self._layer(part, of, against))
            found = [torch.autograd.grad(value, layer, retain_graph=True)[0] for value in (of, against)]
        first, second = (at_least_float32(gradient.detach()).reshape(1, -1) for gradient in found)
        return first, second

    def _layer(self, part: nn.Module, of: Tensor, against: Tensor) -> str:
        """The name of the weight by which gradients are compared: by default the last matrix, or kernel, that both losses reach."""
        if self._found:
            return self._found
        named = {self.config.layer: part.get_parameter(self.config.layer)} if self.config.layer else dict(part.named_parameters())
        wanted = {name: p for name, p in named.items() if p.requires_grad and p.dim() > 1}
        reached = [
            torch.autograd.grad(value, list(wanted.values()), retain_graph=True, allow_unused=True)
            if value.requires_grad
            else [None] * len(wanted)
            for value in (of, against)
        ]
        both = [name for name, *gradients in zip(wanted, *reached, strict=True) if all(gradient is not None for gradient in gradients)]
        if not both:
            which = self.config.layer or "any layer"
            raise ValueError(
                f"layer: the losses {self.config.of} and {self.config.against} do not both reach {which} of {self.config.part}"
            )
        self._found = both[-1]
        return self._found
