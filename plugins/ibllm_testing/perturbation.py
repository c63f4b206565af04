"""What perturbations are asked, with a model of stand-ins that can do everything."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ibllm.contracts.inputs import Handed, fabricate
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.perturbation import Perturbation
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.watch import Present

from .checks import expect, finite, same
from .inputs import Inputs
from .inputs import fabricate as fabricate_inputs
from .loss import stand_ins
from .suite import Suite
from .waiting import nothing_waits, play_as_captured


class Space(nn.Module):
    """A loss that learns a common space, for what is measured in one: half of each pooled latent."""

    def text_point(self, z: Latent) -> Tensor:
        """(b k) unit vectors."""
        return nn.functional.normalize(z.pooled[:, ::2], dim=-1)

    def image_point(self, z: Latent) -> Tensor:
        """(b k) unit vectors."""
        return nn.functional.normalize(z.pooled[:, ::2], dim=-1)


class PerturbationSuite(Suite):
    """What a stage's losses see in the place of its data. Of the stage's losses there is one, ``space``, with a common space of texts and images.

    Attributes:
        apart: how far an item that is perturbed alone may be from the same item in a batch: rounding, along which an attack's signs may turn.
    """

    kind = "perturbation"
    apart: float = 1e-4

    def model(self, device: torch.device) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return stand_ins(self.context()).to(device)

    def cycle(self, model: Model, batch: Batch, step: int = 0) -> Cycle:
        """A batch at the beginning of an iteration."""
        losses: Any = {"space": Space()}
        return Cycle(model, batch, losses, (0, "suite"), Present(step, step))

    def _ready(self, device: torch.device, items: int = 4) -> tuple[Any, Model, Inputs]:
        return self.make(device=device), self.model(device).train(), fabricate_inputs(self.context(), items).to(device)

    def test_it_is_a_perturbation(self) -> None:
        """Its factory gives a Perturbation."""
        made = self.make()
        expect(isinstance(made, Perturbation), f"{self._name}: its factory gives a {type(made).__name__}, no Perturbation")

    def test_it_gives_the_same_items(self, device: torch.device) -> None:
        """A batch of the same shapes and kinds of number, finite, images within [−1, 1]; of four items and of one."""
        made, model, m = self._ready(device)
        for some in (m, m.take(0)):
            before = some.batch()
            found = made.perturbed(self.cycle(model, before))
            expect(isinstance(found, Batch), f"{self._name}: perturbed gives a {type(found).__name__}, no Batch")
            expect((found.numbers == before.numbers).all(), f"{self._name}: the items have other numbers than they had")
            for name, value in _tensors(before).items():
                other = _tensors(found).get(name)
                alike = other is not None and (other.shape, other.dtype, other.device) == (value.shape, value.dtype, value.device)
                expect(alike, f"{self._name}: {name} was {_said(value)} and is {_said(other)}")
            finite(_tensors(found), f"of {len(some)} items: {self._name}")
            expect(bool((found.y.abs() <= 1).all()), f"{self._name}: images leave [−1, 1]")

    def test_it_perturbs_something(self, device: torch.device) -> None:
        """In one of a few steps something else stands in the batch than before."""
        made, model, m = self._ready(device)
        before = _tensors(m.batch())
        for step in range(5):
            found = _tensors(made.perturbed(self.cycle(model, m.batch(), step)))
            if any(name not in before or not torch.equal(value, before[name]) for name, value in found.items()):
                return
        expect(False, f"{self._name}: in 5 steps nothing was perturbed; give options with which something is")

    def test_what_it_is_given_stays_as_it_is(self, device: torch.device) -> None:
        """Batch, weights, gradients and modes of the model are afterwards as they were."""
        made, model, m = self._ready(device)
        batch, modes = m.batch(), [module.training for module in model.modules()]
        handed = Handed(**attrs.asdict(batch, recurse=False), **{f"weight{n}": p for n, p in enumerate(model.state_dict().values())})
        made.perturbed(self.cycle(model, batch))
        handed.check()
        expect(all(p.grad is None and p.requires_grad for p in model.parameters()), f"{self._name}: parameters have a gradient afterwards")
        expect(modes == [module.training for module in model.modules()], f"{self._name}: modules are in another mode afterwards")

    def test_an_item_does_not_depend_on_the_others(self, device: torch.device) -> None:
        """In a batch and alone an item becomes the same, so that ranks and micro-batches change nothing."""
        made, model, m = self._ready(device)
        whole = _tensors(made.perturbed(self.cycle(model, m.batch())))
        for row in range(len(m)):
            alone = _tensors(made.perturbed(self.cycle(model, m.take(row).trimmed().batch())))
            # Alone it has less padding, and not what it has only because of others (a shift of texts, say): there is nothing in either.
            both = {name: value[row : row + 1] for name, value in whole.items() if name in alone}
            wanted = {name: value[tuple(map(slice, alone[name].shape))] for name, value in both.items()}
            same(alone, wanted, f"{self._name}: item {row} alone becomes another than in a batch", self.apart, 0)
            alone |= {name: value[:0] for name, value in whole.items() if name not in alone and not name.startswith("y_")}
            left = [name for name, value in whole.items() if name in alone and _left_out(value[row : row + 1], alone[name]).any()]
            expect(not left, f"{self._name}: of item {row}, {', '.join(left)} is perturbed in a batch and not alone")

    def test_the_same_key_gives_the_same(self, device: torch.device) -> None:
        """Whatever torch's generator holds, seed, step and item decide."""
        made, model, m = self._ready(device)
        found = []
        for seed in range(2):
            torch.manual_seed(seed)
            found.append(_tensors(made.perturbed(self.cycle(model, m.batch(), 3))))
        same(found[1], found[0], f"{self._name}: torch's global generator is drawn from; expected cycle.rng", 0, 0)

    def test_it_walks_on_the_meta_device(self) -> None:
        """Built and asked under ``torch.device("meta")``: what `ibllm check` does."""
        meta = torch.device("meta")
        with meta:
            made, model = self.make(), self.model(meta)
        before = fabricate(model, 3, meta)
        found = made.perturbed(self.cycle(model, before))
        for name, value in _tensors(before).items():
            expect(_tensors(found)[name].shape == value.shape, f"{self._name}: on the meta device {name} has another shape")

    def test_training_waits_for_no_device(self) -> None:
        """No number is read from the device, and nothing is copied to it: a card is never waited for."""
        meta = torch.device("meta")
        with meta:
            made, model = self.make(), self.model(meta).train()
        cycle = self.cycle(model, fabricate(model, 3, meta))
        with nothing_waits(meta):
            made.perturbed(cycle)

    def test_a_pass_can_be_captured(self) -> None:
        """An iteration that is captured plays the same kernels on the same memory again."""
        made, model, m = self._ready(torch.device("cpu"))
        play_as_captured(self._name, model, lambda: made.perturbed(self.cycle(model, m.batch())))

    def test_bf16_gives_finite_numbers(self, device: torch.device) -> None:
        """Under bf16 autocast what it gives is finite."""
        made, model, m = self._ready(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            finite(_tensors(made.perturbed(self.cycle(model, m.batch()))), f"under bf16 autocast: {self._name}")


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """Name → tensor of a batch."""
    found: dict[str, Tensor] = {}
    for name, value in attrs.asdict(batch, recurse=False).items():
        if isinstance(value, Tokens):
            found |= {f"{name}.ids": value.ids, f"{name}.mask": value.mask}
        elif isinstance(value, Tensor):
            found[name] = value
    return found


def _left_out(value: Tensor, part: Tensor) -> Tensor:
    """`value` with zeros where a smaller tensor's places are."""
    left = value.clone()
    left[tuple(map(slice, part.shape))] = 0
    return left


def _said(value: Tensor | None) -> str:
    return "not there" if value is None else f"{value.dtype} {tuple(value.shape)}"
