"""``[compute] shard``: parts whose parameters, gradients and moments lie in shards over the processes of a run, by torch's FSDP.

A listener shards them once the model is built; the core trains, saves and restores what lies in shards (`ibllm_core.model.sharding`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ibllm_core.errors import UserError
from ibllm_core.interfaces.image import Discriminator
from ibllm_core.interfaces.optimisation import EvaluationWeights, Procedure
from ibllm_core.model import build
from ibllm_core.model.model import Model
from ibllm_core.model.sharding import whole
from ibllm_core.training.events import Listener, ModelBuilt, Prepared

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ibllm_core.training.session import Session


class Sharding(Listener):
    """Shards the parts of a run of several processes where its recipe wants it. What cannot be trained in shards is refused."""

    everywhere = essential = True

    def on_prepared(self, event: Prepared) -> None:
        self._session = session = event.session
        if not session.recipe.compute.shard:
            return
        if session.ranks.count == 1:
            session.tell("compute.shard: a run of one process shards nothing")
            return
        some = {"a": nn.Parameter(torch.zeros(1, 1))}
        for stage in session.recipe.running():
            own = type(build.build_procedure(session.recipe, stage)).iterate is not Procedure.iterate
            if own or isinstance(build.build_optimizer(session.recipe, "model").build(some), EvaluationWeights):
                said = "compute.shard is for the procedure alternate and for optimizers without evaluation weights (schedule-free methods)"
                event.against.append(UserError(f"stages.{stage.name}: {said}", stage.place))
            if stage.perturb is not None:
                said = "compute.shard is not for stages that perturb: gradients by images would gather every part again; expected one of the two"
                event.against.append(UserError(f"stages.{stage.name}.perturb: {said}", stage.place))

    def on_model_built(self, event: ModelBuilt) -> None:
        if self._session.recipe.compute.shard and self._session.ranks.count > 1:
            begin(self._session)


def begin(session: Session) -> None:
    """Shards a session's model and its averages. What is loaded from here on may be whole or in shards."""
    if stay := shard(session.model, session.ranks.count):
        session.tell(f"compute.shard: these parts stay whole in every process: {', '.join(stay)}")
    followed, session.average = session.average.state(), session.averages()
    session.average.restore(followed)
    session.gather = lambda: gather(session)


def gather(session: Session) -> None:
    """The model is whole in every process again, to be used by one alone; it is trained no more."""
    groups = {group: {name: whole(t) for name, t in tensors.items()} for group, tensors in session.shared().items()}
    made = build.build_model(session.recipe, session.tokenizers, session.dataset.image_shape).to(session.model.device)
    session.model.parts, session.model.sharded = made.parts, []
    session.modules |= {f"parts.{name}": part for name, part in made.parts.items()}
    session.average = session.averages()
    session.take(groups)


def shard(model: Model, count: int) -> list[str]:
    """Shards the model's parts over `count` processes, which hold the same weights. Gives those that stay whole, with the reason.

    A part is gathered when one of its methods is called, and is whole until the model's turn, or an inference, is over (`Model.reshard`).
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh, whole = init_device_mesh(model.device.type, (count,)), list[str]()
    held = [p for part in model.parts.values() for p in set(part.parameters())]
    for name, part in model.parts.items():
        parameters = list(part.parameters())
        if isinstance(part, Discriminator):
            whole.append(f"{name} (penalties differentiate it twice)")
        elif any(p.ndim == 0 for p in parameters):
            whole.append(f"{name} (it has a parameter without an axis)")
        elif any(sum(p is other for other in held) > 1 for p in parameters):
            whole.append(f"{name} (it shares parameters with another part)")
        elif parameters:
            model.sharded.append(_Sharded(part, mesh))
    return whole


class _Sharded(nn.Module):
    """Has the parameters of a part sharded. What is called on the part goes through `play`; what the part calls on itself meanwhile does not."""

    def __init__(self, part: nn.Module, mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        super().__init__()
        self.part, self.within = part, False
        # It is called several times in a turn: one call's passes must not free what another's need.
        fully_shard(self, mesh=mesh, reshard_after_forward=False).set_reshard_after_backward(False)
        register_fsdp_forward_method(self, "play")
        for method in ("forward", *_methods(part)):
            setattr(part, method, self._through(getattr(part, method)))

    def play(self, method: Callable[[], Any]) -> tuple[list[Any], TreeSpec]:
        """What a method gives, as FSDP finds the tensors in it; of what it is handed FSDP need not know: gradients are reduced once, at the end."""
        leaves, tree = tree_flatten(method())
        # A view that somebody writes into would lose the hook that FSDP hangs on it.
        return [leaf.clone() if isinstance(leaf, Tensor) and leaf.requires_grad and leaf._is_view() else leaf for leaf in leaves], tree

    def _through(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def called(*given: Any, **named: Any) -> Any:
            if self.within:
                return method(*given, **named)
            self.within = True
            try:
                return tree_unflatten(*self.play(lambda: method(*given, **named)))
            finally:
                self.within = False

        return called


def _methods(part: nn.Module) -> list[str]:
    """What is called on a part from outside beside its forward."""
    own = [vars(cls) for cls in type(part).__mro__ if not cls.__module__.startswith("torch.")]
    names = {name for defined in own for name, value in defined.items() if isfunction(value) and not name.startswith("_")}
    return sorted(names - set(dir(nn.Module)))
