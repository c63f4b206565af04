"""``[compute] compile`` and ``activation_checkpointing``: how the parts' passes are made. A listener arranges it once the model is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ibllm.blocks.borrowing import borrowed
from ibllm_core.interfaces import loss
from ibllm_core.interfaces.image import Discriminator, DrawingDecoder
from ibllm_core.interfaces.noise import PASS, Rng
from ibllm_core.interfaces.text import TextDecoder
from ibllm_core.training.events import Listener, ModelBuilt, Prepared

if TYPE_CHECKING:
    from ibllm_core.model.model import Model
    from ibllm_core.recipe.schema import Compute
    from ibllm_core.training.session import Session

#: ``compile = "auto"`` compiles models of so many parameters, on CUDA, for so many steps: at 130 million a step took 75 ms in place of 97 (an H100,
#: bf16, attention with a mask), so that the minute that compiling takes is earned back in 2,700 steps.
LARGE, LONG = 20_000_000, 3_000


class Passes(Listener):
    """Arranges the passes of a run's parts, in every process alike, after the rehearsal, which is eager."""

    everywhere = essential = True

    def on_prepared(self, event: Prepared) -> None:
        self._session = event.session

    def on_model_built(self, event: ModelBuilt) -> None:
        arrange(self._session)


def arrange(session: Session) -> bool:
    """Compiles and recomputes as the session's recipe asks. Gives whether parts are compiled."""
    recipe = session.recipe
    steps = sum(stage.steps for stage in recipe.running())
    return arrange_passes(session.model, recipe.compute, steps, session.tell, session.bus.clock.timed)


def arrange_passes(
    model: Model, compute: Compute, steps: int, tell: Callable[[str], None], timed: Callable[[str], AbstractContextManager[None]]
) -> bool:
    """Compiles the passes that training spends its time in, and has blocks of parts recomputed in backward passes, as the recipe asks; True where it compiles.

    The critic stays as it is: a compiled pass has no second derivative, and penalties would recompute it twice.

    Args:
        steps: that the run has.
        tell: what a user should know.
        timed: counts time for a name; for ``compiling`` while something is compiled.
    """
    parts = {name: part for name, part in model.parts.items() if not isinstance(part, Discriminator)}
    size = sum(p.numel() for part in parts.values() for p in part.parameters())
    pays = model.device.type == "cuda" and size >= LARGE and steps >= LONG
    compiles = pays if compute.compile == "auto" else bool(compute.compile)
    if compiles:
        from torch._dynamo import callback

        leave_uncompiled()
        waiting = ExitStack()
        callback.on_compile_start(lambda *_: waiting.enter_context(timed("compiling")))
        callback.on_compile_end(lambda *_: waiting.close())
        tell(
            f"parts are compiled when they are first used, which takes a minute or so a stage (compute.compile = {str(compute.compile).lower()})"
        )
    blocks = {name: list(_blocks(part)) if compute.activation_checkpointing else [] for name, part in parts.items()}
    for name, part in parts.items():
        # Where blocks are recomputed they are what is compiled: within a compiled pass the compiler decides what is kept.
        owners = [(block, "forward") for block in blocks[name]] or [(part, pass_of(part))]
        for owner, method in owners if compiles else ():
            setattr(owner, method, _compiled(name, getattr(owner, method), tell))
        for block in blocks[name]:
            block.forward = _recomputed(block.forward)
    recomputed = {name: [part, *borrowed(part).values()] for name, part in parts.items()}
    whole = [name for name, held in recomputed.items() if not any(blocks[other] for other, part in parts.items() if part in held)]
    if compute.activation_checkpointing and whole:
        tell(
            f"compute.activation_checkpointing: {', '.join(whole)} names no blocks to recompute (`checkpointed`) and keeps its activations"
        )
    return compiles


def pass_of(part: nn.Module) -> str:
    """The method in which a part spends the time of training; one that spends it elsewhere says so by `trained_pass`."""
    if own := getattr(part, "trained_pass", ""):
        return str(own)
    return "draw" if isinstance(part, DrawingDecoder) else "logits" if isinstance(part, TextDecoder) else "forward"


def _blocks(part: nn.Module) -> Iterator[nn.Module]:
    """The submodules that a part names in `checkpointed`; of a list or a sequence those in it that are more than a layer."""
    for found in map(part.get_submodule, getattr(part, "checkpointed", ())):
        yield from (child for child in found if any(child.children())) if isinstance(found, nn.ModuleList | nn.Sequential) else (found,)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The pass, whose activations are computed again when its backward pass needs them (Chen et al. 2016), from the same random numbers."""

    @wraps(forward)
    def passed(*given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*given, **named)
        # Global generators, which libraries draw from, cannot be read while a graph is captured.
        kept = not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
        return checkpoint(forward, *given, use_reentrant=False, preserve_rng_state=kept, context_fn=_repeated, **named)

    return passed


class _Repeated(AbstractContextManager[None]):
    """Within, as often as asked, `Rng.of_pass` gives what it gave from the call on that this was made before."""

    def __init__(self) -> None:
        under_way = PASS.get()
        self._pass = (under_way[0], under_way[1][0]) if under_way is not None else None

    def __enter__(self) -> None:
        self._token = PASS.set((self._pass[0], [self._pass[1]]) if self._pass is not None else None)

    def __exit__(self, *_: object) -> None:
        PASS.reset(self._token)


def _repeated() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For a computation, and for its repetition in the backward pass (`context_fn` of `torch.utils.checkpoint`): both draw the same numbers."""
    return nullcontext(), _Repeated()


@cache
def leave_uncompiled() -> None:
    """Has `torch.compile` step around the making of numbers, whose keys are made on the host, and around logs."""
    loss.note = torch.compiler.disable(loss.note)  # type: ignore[no-untyped-call]
    for name in ("fold", "of_pass", "normal", "uniform", "integers", "kept"):
        setattr(Rng, name, torch.compiler.disable(getattr(Rng, name)))  # type: ignore[no-untyped-call]


def _compiled(part: str, eager: Callable[..., Any], tell: Callable[[str], None]) -> Callable[..., Any]:
    """The pass through torch.compile; where that fails, as it is from then on."""
    made = torch.compile(eager)

    @wraps(eager)
    def passed(*given: Any, **named: Any) -> Any:
        nonlocal made
        if made is not eager:
            try:
                return made(*given, **named)
            except torch._dynamo.exc.TorchDynamoException as error:
                made = eager
                tell(f"{part} could not be compiled and runs without: {' '.join(str(error).partition(chr(10) * 2)[0].split())}")
        return eager(*given, **named)

    return passed
