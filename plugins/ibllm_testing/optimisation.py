"""What optimizers and schedules are asked."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ibllm_core.interfaces.optimisation import EvaluationWeights, Optimizer, Schedule
from ibllm_core.model.players import pack_optimizer, unpack_optimizer

from .checks import expect, same
from .suite import Suite


class OptimizerSuite(Suite):
    """How parameters follow gradients.

    Attributes:
        steps: steps within which a quadratic falls to a tenth of its first value.
    """

    kind = "optimizer"
    steps: int = 600

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        """A matrix, an embedding, a vector and a number, all near 0.3."""
        random = torch.Generator().manual_seed(0)
        shapes: dict[str, tuple[int, ...]] = {"parts.text_encoder.layer.weight": (4, 3), "parts.text_encoder.embedding.weight": (5, 2)}
        shapes |= {"parts.text_encoder.layer.bias": (4,), "losses.contrastive.log_scale": ()}
        return {name: nn.Parameter((0.3 + 0.1 * torch.randn(shape, generator=random)).to(device)) for name, shape in shapes.items()}

    def _play(self, optimizer: Any, parameters: dict[str, nn.Parameter], steps: int) -> float:
        """Follows Σ w²/2 for so many steps; its value before the last one."""
        value = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            value = torch.stack([p.square().sum() / 2 for p in parameters.values()]).sum()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(value.detach())

    def test_it_builds_a_torch_optimizer(self, device: torch.device) -> None:
        """`build` gives a fresh torch optimizer of all the parameters, each group with a positive ``lr``."""
        made, parameters = self.make(), self.parameters(device)
        expect(isinstance(made, Optimizer), f"{self._name}: its factory gives a {type(made).__name__}, no Optimizer")
        built = made.build(parameters)
        expect(isinstance(built, torch.optim.Optimizer), f"{self._name}: build gives a {type(built).__name__}, no torch.optim.Optimizer")
        held = [id(p) for group in built.param_groups for p in group["params"]]
        expect(sorted(held) == sorted(map(id, parameters.values())), f"{self._name}: its groups do not hold every parameter exactly once")
        expect(all(group.get("lr", 0) > 0 for group in built.param_groups), f"{self._name}: a group has no lr, which schedules multiply")
        expect(made.build(self.parameters(device)) is not built, f"{self._name}: build must give a fresh optimizer each time")

    def test_it_goes_down(self, device: torch.device) -> None:
        """A quadratic falls to a tenth."""
        parameters = self.parameters(device)
        first = float(sum(p.detach().square().sum() / 2 for p in parameters.values()))
        built = self.make().build(parameters)
        last = self._play(built, parameters, self.steps)
        expect(
            math.isfinite(last) and last < first / 10,
            f"{self._name}: after {self.steps} steps down a quadratic its value went from {first:.3g} to {last:.3g}",
        )

    def test_rates_are_followed(self, device: torch.device) -> None:
        """The rate of its groups is what it goes by: with ``lr`` 0 in each, parameters stay where they are."""
        parameters = self.parameters(device)
        built = self.make().build(parameters)
        before = _values(parameters)
        for group in built.param_groups:
            group["lr"] = 0.0
        self._play(built, parameters, 2)
        same(_values(parameters), before, f"{self._name}: with lr = 0 parameters must not move", atol=1e-7, rtol=1e-6)

    def test_vectors_do_not_decay(self, device: torch.device) -> None:
        """Parameters with fewer than two axes get no weight decay: without a gradient's pull they stay."""
        parameters = self.parameters(device)
        built = self.make().build(parameters)
        before = _values(parameters)
        for _ in range(3):
            for p in parameters.values():
                p.grad = torch.zeros_like(p)
            built.step()
        vectors = {name: p for name, p in _values(parameters).items() if p.dim() < 2}
        same(vectors, {name: before[name] for name in vectors}, f"{self._name}: a parameter with fewer than two axes decays", atol=1e-7)

    def test_it_resumes_where_it_stopped(self, device: torch.device) -> None:
        """Packed as checkpoints do and unpacked into a fresh one, it goes on bit for bit."""
        parameters = self.parameters(device)
        built = self.make().build(parameters)
        self._play(built, parameters, 5)
        copies = {name: nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
        tensors, values = pack_optimizer(built)
        tensors, values = {name: tensor.clone() for name, tensor in tensors.items()}, copy.deepcopy(values)
        again = self.make().build(copies)
        unpack_optimizer(again, tensors, values)
        self._play(built, parameters, 3)
        self._play(again, copies, 3)
        same(_values(copies), _values(parameters), f"{self._name}: something that counts is not in its state", 0, 0)

    def test_weights_to_be_used_and_weights_to_be_trained(self, device: torch.device) -> None:
        """One that takes gradients elsewhere (`EvaluationWeights`) can put the weights to be used into the parameters, and back."""
        parameters = self.parameters(device)
        built: Any = self.make().build(parameters)
        if not isinstance(built, EvaluationWeights):
            return
        self._play(built, parameters, 4)
        before = _values(parameters)
        built.eval()
        built.train()
        same(_values(parameters), before, f"{self._name}: eval and train again must give the weights back", atol=1e-5)


class ScheduleSuite(Suite):
    """A factor on the learning rate over a stage.

    Attributes:
        lengths: steps of a stage that are tried.
    """

    kind = "schedule"
    lengths: tuple[int, ...] = (1, 2, 3, 10, 1000)

    def test_it_is_defined_for_every_step(self) -> None:
        """Finite and not negative for every step of a stage, however short."""
        made = self.make()
        expect(isinstance(made, Schedule), f"{self._name}: its factory gives a {type(made).__name__}, no Schedule")
        for steps in self.lengths:
            for step in range(steps):
                factor = made.factor(step, steps)
                expect(math.isfinite(factor) and factor >= 0, f"{self._name}: the factor of step {step} of {steps} is {factor}")

    def test_it_moves_at_all(self) -> None:
        """Some step of every stage has a factor above 0."""
        made = self.make()
        for steps in self.lengths:
            expect(
                any(made.factor(step, steps) > 0 for step in range(steps)),
                f"{self._name}: in a stage of {steps} steps nothing would be learned",
            )

    def test_it_is_a_function_of_the_step(self) -> None:
        """Asked in any order, of any object, the same: a restart needs no state."""
        made, steps = self.make(), 50
        wanted = [made.factor(step, steps) for step in range(steps)]
        backwards = [made.factor(step, steps) for step in reversed(range(steps))]
        expect(backwards[::-1] == wanted, f"{self._name}: the factor depends on what was asked before")
        expect([self.make().factor(step, steps) for step in range(steps)] == wanted, f"{self._name}: two objects give different factors")


def _values(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in parameters.items()}
