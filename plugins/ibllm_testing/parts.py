"""What every part of a model is asked: the checks that need a module and something to feed it with."""

from __future__ import annotations

import logging
import random
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibllm.passes import arrange_passes, leave_uncompiled, pass_of
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.noise import drawing_from
from ibllm_core.model.model import Model
from ibllm_core.model.players import set_trainable
from ibllm_core.recipe.schema import Compute

from .checks import at_rest, expect, finite, floats, near, round_trip, same, unreached
from .inputs import Inputs, fabricate
from .live import live_options_act
from .suite import Suite
from .waiting import nothing_waits, play_as_captured

#: Image shapes beside the suite's own: what a part may refuse with a `ValueError`, but never get wrong.
OTHER_SHAPES = ((3, 64, 64), (3, 32, 48), (1, 32, 32))


class PartSuite(Suite):
    """What is asked of every part of a model.

    Attributes:
        never_trained: parameter name (or pattern, ``head.*``) → why no gradient may reach it.
        steps: training steps within which every parameter must be reached; rare events (a dropped condition) may need more.
        bf16: how far results under bf16 autocast may be off, as a fraction of their size.
        sees_images: whether an image reaches the part: then other image shapes are tried.
    """

    never_trained: Mapping[str, str] = MappingProxyType({})
    steps: int = 12
    bf16: float = 0.1
    once = Suite.once | {"test_compiled_it_gives_the_same", "test_recomputed_it_gives_the_same"}
    sees_images: ClassVar[bool] = True

    @abstractmethod
    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        """Results of what training calls, with the items as first axis, padding zeroed; these run on the meta device too."""

    def samples(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        """Results of what use calls (sampling), the same way."""
        return {}

    @abstractmethod
    def check_shapes(self, part: Any, m: Inputs) -> None:
        """Calls the part and compares every result's shape with the interface's."""

    def objective(self, part: Any, m: Inputs) -> Tensor:
        """() what a training step would follow: by default a fixed mixture of all that the passes give."""
        found = {name: tensor for name, tensor in floats(self.passes(part, m)).items() if tensor.requires_grad}
        expect(bool(found), f"{self._name}: nothing that its passes give has a gradient")
        return torch.stack([(tensor.float() * _wave(tensor)).sum() for tensor in found.values()]).sum()

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        """What stands before the part, as leaves that want a gradient through it when it is frozen: name → alternatives."""
        return {}

    def fabricate(self, context: Context, items: int = 3) -> Inputs:
        """What the part is fed with."""
        return fabricate(context, items)

    def _ready(self, device: torch.device) -> tuple[Any, Inputs]:
        context = self.context()
        return at_rest(self.make(context, device=device)), self.fabricate(context).to(device)

    @torch.no_grad()
    def _results(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        return {**self.passes(part, m), **self.samples(part, m)}

    # What is asked.

    def test_shapes_are_as_declared(self, device: torch.device) -> None:
        """Every result has the shape that the interface says, for three items and for one."""
        part, m = self._ready(device)
        for some in (m, m.take(1)):
            with torch.no_grad():
                self.check_shapes(part, some)
            finite(floats(self._results(part, some)), f"for {len(some)} items")

    @torch.no_grad()
    def test_live_options_act_in_use(self, device: torch.device) -> None:
        """An option that is ``live``, changed in use, does what it does in a part that is built with it."""
        part, m = self._ready(device)
        live_options_act(
            self._name,
            part,
            self.config(),
            lambda other: self.make(device=device, config=other),
            lambda part: self.samples(part, m),
        )

    def test_it_is_built_and_walked_on_the_meta_device(self) -> None:
        """Built and called under ``torch.device("meta")`` it gives the shapes that it gives on the CPU: what `ibllm check` does."""
        context, meta = self.context(), torch.device("meta")
        m = self.fabricate(context)
        wanted = {name: tensor.shape for name, tensor in self.passes(self.make(context).eval(), m).items()}
        with meta:
            part = self.make(context)
            found = self.passes(part, m.to(meta))
        stray = [name for name, tensor in part.state_dict().items() if tensor.device != meta]
        expect(not stray, f'{self._name}: built under torch.device("meta") it has memory all the same: {", ".join(stray)}')
        for name, shape in wanted.items():
            expect(found[name].device == meta, f"{self._name}: {name} of a part on the meta device is on {found[name].device}")
            expect(found[name].shape == shape, f"{self._name}: {name} is {tuple(found[name].shape)} on meta, {tuple(shape)} on the CPU")

    def test_training_waits_for_no_device(self) -> None:
        """In training mode no number, size or mask is read from the device, and nothing is copied to it: a card is never waited for between two log lines."""
        meta = torch.device("meta")
        m = self.fabricate(self.context()).to(meta)
        with meta:
            part = self.make(self.context()).train()
            self.objective(part, m)  # what is made at a first call is made now
        with drawing_from(m.rng("pass")), nothing_waits(meta):
            value = self.objective(part, m)
            with suppress(NotImplementedError):  # the meta device lacks an operation
                value.backward()  # type: ignore[no-untyped-call]

    def test_a_pass_can_be_captured(self) -> None:
        """What a training pass changes it changes in place, and in tensors alone: one that is captured plays the same kernels on the same memory again."""
        part, m = self._ready(torch.device("cpu"))
        with drawing_from(m.rng("pass")):
            play_as_captured(self._name, part.train(), lambda: self.objective(part, m).backward())  # type: ignore[no-untyped-call]

    def test_recomputed_it_gives_the_same(self) -> None:
        """With the blocks that it names (`checkpointed`) computed again in the backward pass it gives the same gradients, bit for bit, and keeps less."""
        context, found, kept, told = self.context(), [], [], list[str]()
        m = self.fabricate(context)
        for again in (False, True):
            part, bytes_kept = self.make(context).train(), [0]
            if not getattr(part, "checkpointed", ()):
                return
            model = Model({self.kind: part}, {}, self.image_shape)
            arrange_passes(model, Compute(compile=False, activation_checkpointing=again), 1, told.append, lambda _: nullcontext())

            def keep(tensor: Tensor, count: list[int] = bytes_kept) -> Tensor:
                count[0] += tensor.nbytes
                return tensor

            with drawing_from(m.rng("pass")), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                value = self.objective(part, m)
            value.backward()  # type: ignore[no-untyped-call]
            found.append({name: p.grad for name, p in part.named_parameters() if p.grad is not None} | {"the objective": value.detach()})
            kept.append(bytes_kept[0])
        same(found[1], found[0], f"{self._name}: recomputed in the backward pass, blocks must give the same", 0, 0)
        expect(
            bool(told) or kept[1] < kept[0],
            f"{self._name}: with its blocks recomputed it keeps {kept[1]} bytes for the backward pass, else {kept[0]}",
        )

    def test_other_image_shapes_work_or_are_refused(self) -> None:
        """Other heights, widths and channels give the right shapes, or are refused with a `ValueError` when the part is built."""
        if not self.sees_images:
            return
        for shape in OTHER_SHAPES:
            context, meta = attrs.evolve(self.context(), image_shape=shape), torch.device("meta")
            m = self.fabricate(context).to(meta)
            with meta:
                try:
                    part = self.make(context)
                except ValueError:
                    continue
                self.check_meta_shapes(part, m)

    def check_meta_shapes(self, part: Any, m: Inputs) -> None:
        """The same on the meta device, which has no numbers."""
        self.check_shapes(part, m)

    def test_padding_never_changes_a_result(self, device: torch.device) -> None:
        """More padding, filled with junk (tokens that are masked, latent places that are masked), changes nothing."""
        part, m = self._ready(device)
        longest = self.context().tokenizer.max_length  # type: ignore[union-attr]
        padded = self._results(part, m.padded(longest))
        wanted = self._results(part, m)
        found = {name: tensor[tuple(slice(size) for size in wanted[name].shape)] for name, tensor in padded.items()}
        same(found, wanted, f"{self._name}: what the masks leave out must not matter")

    def test_the_batch_never_changes_a_result(self, device: torch.device) -> None:
        """An item alone gives what it gives among others (in evaluation mode, its noise keyed by its own number)."""
        part, m = self._ready(device)
        whole = self._results(part, m)
        for row in range(len(m)):
            alone = self._results(part, m.take(row))
            among = {name: tensor[row : row + 1] for name, tensor in whole.items()}
            same(alone, among, f"{self._name}: the other items of a batch must not matter", atol=2e-5)

    def test_a_batch_of_one_can_be_trained_on(self, device: torch.device) -> None:
        """One item in training mode gives finite results and gradients."""
        part, m = self._ready(device)
        part.train()
        self.objective(part, m.take(0)).backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in part.named_parameters() if p.grad is not None}
        finite({f"the gradient of {name}": g for name, g in gradients.items()}, f"after one item: {self._name}")

    def test_the_same_seed_gives_the_same_result(self, device: torch.device) -> None:
        """Weights follow the seed they are drawn with; results follow `rng` alone, never torch's global generator."""
        context = self.context()
        m = self.fabricate(context).to(device)
        found = []
        for number in range(2):
            part = self.make(context, seed=3, device=device).eval()
            torch.manual_seed(number)
            before = torch.get_rng_state()
            found.append((part.state_dict(), self._results(part, m)))
            expect(torch.equal(before, torch.get_rng_state()), f"{self._name}: it draws from torch's global generator in evaluation mode")
        same(found[1][0], found[0][0], f"{self._name}: built twice after torch.manual_seed(3), its weights must be equal", 0, 0)
        same(found[1][1], found[0][1], f"{self._name}: equal weights, inputs and rng must give equal results")

    def test_training_draws_from_no_global_generator(self) -> None:
        """In training mode it draws neither from torch's, numpy's nor Python's own generator: such numbers would depend on who shares the batch."""
        part, m = self._ready(torch.device("cpu"))
        before = random.getstate(), repr(np.random.get_state())
        with drawing_from(m.rng("pass")) as drew:
            self.objective(part.train(), m)
            expect(
                not drew(),
                f"{self._name}: it draws from torch's global generator; ibllm.plugin has Dropout, and Rng.of_pass for other draws",
            )
        expect(
            (random.getstate(), repr(np.random.get_state())) == before, f"{self._name}: it draws from Python's or numpy's global generator"
        )

    def test_inputs_are_not_changed(self, device: torch.device) -> None:
        """What is handed over stays as it was."""
        part, m = self._ready(device)
        kept = m.clone()
        self._results(part, m)
        part.train()
        self.objective(part, m)
        same(m.tensors(), kept.tensors(), f"{self._name}: a part must not change its inputs in place", 0, 0)

    def test_gradients_reach_every_parameter(self, device: torch.device) -> None:
        """Within a few steps every parameter that trains gets a gradient; one that never does would only cost memory."""
        part, m = self._ready(device)
        part.train()
        waiting = {name for name, p in part.named_parameters() if p.requires_grad and not self._excused(name)}
        optimizer = torch.optim.Adam([p for p in part.parameters() if p.requires_grad] or [nn.Parameter(m.y[0])], lr=1e-2)
        for step in range(self.steps if waiting else 0):
            optimizer.zero_grad(set_to_none=True)
            torch.manual_seed(step)
            rows = Inputs.take(m, *range(len(m)))
            rows.numbers[:] = rows.numbers + 100 * step
            self.objective(part, rows).backward()  # type: ignore[no-untyped-call]
            waiting &= set(unreached(part))
            if not waiting:
                return
            optimizer.step()
        listed = ", ".join(sorted(waiting))
        expect(
            not waiting,
            f"{self._name}: in {self.steps} training steps no gradient reached {listed}; leave them out, or say why in never_trained",
        )

    def _excused(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.never_trained)

    def test_gradients_pass_through_when_it_is_frozen(self, device: torch.device) -> None:
        """Frozen, it takes no gradient itself and still hands it on to what stands before it."""
        part, m = self._ready(device)
        set_trainable(Model({self.kind: part}, {}, self.image_shape), ())
        for what, leaves in self.gradient_paths(part, m).items():
            through = any(leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves)
            expect(through, f"{self._name}: frozen, it hands no gradient on to {what}, so what gives it could not be trained through it")

    def test_what_may_be_trained_alone_is(self, device: torch.device) -> None:
        """Each sub-module that its config says may be trained alone (`trainable`) is there; trained alone it gets a gradient, and the rest stays as it is."""
        for name in self.config().trainable():
            part, m = self._ready(device)
            found = [module for path, module in part.named_modules() if path == name and any(True for _ in module.parameters())]
            expect(
                bool(found),
                f"{self._name}: its config says that {name} can be trained alone, but it has no such sub-module with parameters",
            )
            set_trainable(Model({self.kind: part}, {}, self.image_shape), (f"{self.kind}.{name}",))
            optimizer, kept = torch.optim.SGD(found[0].parameters(), lr=1e-2), {key: t.clone() for key, t in part.state_dict().items()}
            for step in range(self.steps):
                rows = Inputs.take(m, *range(len(m)))
                rows.numbers[:] = rows.numbers + 100 * step
                self.objective(part, rows).backward()  # type: ignore[no-untyped-call]
                if any(p.grad is not None for p in found[0].parameters()):
                    break
            reached = any(p.grad is not None for p in found[0].parameters())
            expect(
                reached,
                f"{self._name}: in {self.steps} training steps no gradient reached {name}, which its config says can be trained alone",
            )
            optimizer.step()
            moved = [key for key, t in part.state_dict().items() if not key.startswith(f"{name}.") and not torch.equal(t, kept[key])]
            expect(not moved, f"{self._name}: while {name} is trained alone, {', '.join(moved)} must stay as it is")

    def test_its_state_dict_is_all_there_is(self, device: torch.device) -> None:
        """After a training step, through safetensors, into a part with other first weights: it gives the same results."""
        context = self.context()
        m = self.fabricate(context).to(device)
        part, other = self.make(context, seed=1, device=device), self.make(context, seed=2, device=device)
        self.objective(part.train(), m)
        round_trip(part, other)
        same(self._results(other.eval(), m), self._results(part.eval(), m), f"{self._name}: something that counts is not in its state dict")

    def test_bf16_gives_nearly_the_same(self, device: torch.device) -> None:
        """Under bf16 autocast results and gradients are finite, and results near those of fp32."""
        part, m = self._ready(device)
        wanted = floats(self.passes(part, m))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            found = floats(self.passes(part, m))
            value = self.objective(part, m)
            samples = floats(self.samples(part, m)) if type(self).samples is not PartSuite.samples else {}
        finite({**found, **samples}, f"under bf16 autocast: {self._name}")
        near(found, wanted, self.bf16, f"{self._name}: bf16 autocast must give nearly what fp32 gives")
        value.backward()  # type: ignore[no-untyped-call]
        gradients = {f"the gradient of {name}": p.grad for name, p in part.named_parameters() if p.grad is not None}
        finite(gradients, f"under bf16 autocast: {self._name}")

    @pytest.mark.slow
    def test_compiled_it_gives_the_same(self, device: torch.device) -> None:
        """Through ``torch.compile`` (backend ``aot_eager``) results and gradients are the same."""
        torch._dynamo.reset()
        logging.getLogger("torch.__trace").propagate = False  # pages of it would be shown beside a failure
        eager, m = self._ready(device)
        compiled = at_rest(self.make(self.context(), device=device))
        leave_uncompiled()
        which = pass_of(compiled)
        setattr(compiled, which, torch.compile(getattr(compiled, which), backend="aot_eager"))
        wanted: dict[str, Tensor] = {}
        found: dict[str, Tensor] = {}
        for part, into in ((eager, wanted), (compiled, found)):
            value = self.objective(part, m)
            value.backward()  # type: ignore[no-untyped-call]
            into |= {"the objective": value.detach()}
            into |= {f"the gradient of {name}": p.grad for name, p in part.named_parameters() if p.grad is not None}
        near(found, wanted, 1e-3, f"{self._name}: torch.compile must not change a result")


def _wave(tensor: Tensor) -> Tensor:
    """Fixed unequal weights of the tensor's shape, each of the order of one."""
    return torch.sin(1 + torch.arange(tensor.numel(), device=tensor.device, dtype=torch.float32)).view_as(tensor)
