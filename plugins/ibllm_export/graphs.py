"""The passes of a model as plain modules from tensors to tensors, and their `torch.export` programs.

Shapes: b batch, t tokens of a text, c h w image, v vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from ibllm_core.errors import UserError
from ibllm_core.interfaces.image import ImageEncoder
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.text import TextDecoder, TextEncoder
from ibllm_core.interfaces.tokenizer import BOS
from ibllm_core.model.model import Model

from .handed import Asked, Draw, Handed, example
from .refusing import refused

#: The parts that a graph of drawing and those of writing are made of.
DRAWS, WRITES = ("text_encoder", "image_decoder"), ("image_encoder", "text_decoder")
#: Those of drawing, with the codec where there is one.
DRAWN = (*DRAWS, "image_tokenizer")


class Drawing(nn.Module):
    """Text → image: E_x, D_y's sampler with its loop, and the codec where there is one."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        names = [name for name in DRAWN if name in model.parts]
        # Of its own, so that no other part's weights are in the graph.
        self.model = Model({name: model.parts[name] for name in names}, {}, model.image_shape, model.works_on == "latents")
        self.encoder = cast(TextEncoder, model.part("text_encoder"))

    def forward(self, ids: Tensor, mask: Tensor, *numbers: Tensor) -> Tensor:
        """ids (b t) int64, mask (b t) bool, the random numbers that the sampler asks for → image (b c h w) in [−1, 1], float32."""
        drawn: Tensor = self.model.sample_image(self.encoder(Tokens(ids, mask)), Handed(ids, numbers))
        return drawn.float()

    def asked(self, ids: Tensor, mask: Tensor) -> list[Draw]:
        """What the sampler asks for, found out by drawing: once with as many tokens, once with one fewer."""
        long, short = (self._asked(ids[:, :t], mask[:, :t]) for t in (ids.shape[1], ids.shape[1] - 1))
        if [draw.kind for draw in long] != [draw.kind for draw in short]:
            raise UserError("it asks for other random numbers for a longer text")
        return [
            Draw(a.kind, tuple(n if n == m else "t" for n, m in zip(a.shape, b.shape, strict=True)))
            for a, b in zip(long, short, strict=True)
        ]

    def _asked(self, ids: Tensor, mask: Tensor) -> list[Draw]:
        generator = Asked(ids)
        self.model.sample_image(self.encoder(Tokens(ids, mask)), generator)
        return generator.draws


class Reading(nn.Module):
    """Image → the captioner's state before the first token, its tensors in order."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder = cast(ImageEncoder, model.part("image_encoder"))
        self.decoder = cast(TextDecoder, model.part("text_decoder"))

    def state(self, image: Tensor) -> Any:
        """As the decoder has it."""
        return self.decoder.begin(self.encoder(image))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (b c h w) in [−1, 1] → the state's tensors, each (b …)."""
        return tuple(pytree.tree_leaves(self.state(image)))


class Step(nn.Module):
    """One token of a caption: the state, caches included, goes in, and what changes of it comes out.

    Args:
        state: one of the decoder's states, for what it is made of.
    """

    def __init__(self, model: Model, state: Any) -> None:
        super().__init__()
        self.decoder = cast(TextDecoder, model.part("text_decoder"))
        before, self.structure = pytree.tree_flatten(state)
        if not all(isinstance(kept, Tensor) for kept in before):
            raise UserError("its state holds something else than tensors")
        ids = torch.full((before[0].shape[0],), BOS)
        after = pytree.tree_leaves(self.step(ids, before)[1])
        if [kept.shape for kept in after] != [kept.shape for kept in before]:
            raise UserError("its state grows from step to step")
        #: Places of the tensors that a step changes.
        self.changed = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if not torch.equal(old, new)]

    def step(self, ids: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, Any]:
        """The decoder's own; it may write over the state, which a graph's inputs do not bear."""
        return self.decoder.step(ids, pytree.tree_unflatten([kept.clone() for kept in state], self.structure))

    def forward(self, ids: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """ids (b), the state's tensors → logits (b v) of the next token in float32, and the tensors that changed."""
        logits, after = self.step(ids, state)
        leaves = pytree.tree_leaves(after)
        return (logits.float(), *(leaves[n] for n in self.changed))


@attrs.frozen
class Program:
    """A pass, traced.

    Attributes:
        name: ``draw``, ``read`` or ``step``.
        inputs, outputs: names in order.
        example: what it was traced with.
        draws: the random numbers among the inputs, the last ones.
        parts: whose passes it holds.
    """

    name: str
    module: nn.Module
    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    draws: tuple[Draw, ...] = ()
    parts: tuple[str, ...] = ()


def sides(model: Model) -> list[str]:
    """``draw`` and ``write``, as far as the model has the parts. Raises `UserError` where it has neither pair."""
    found = [name for name, parts in (("draw", DRAWS), ("write", WRITES)) if all(part in model.parts for part in parts)]
    if not found:
        raise UserError(
            f"this model neither draws nor writes: it has {', '.join(model.parts)}; expected {' and '.join(DRAWS)}, or {' and '.join(WRITES)}"
        )
    return found


def programs(model: Model, names: dict[str, str]) -> list[Program]:
    """A model's passes, traced for any number of items and texts of any length.

    Args:
        names: part → what its component is called in messages.

    Raises:
        UserError: a part that cannot be traced, by name, with the reason.
    """
    found: list[Program] = []
    with model.inference(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own code
        for side in sides(model):
            with refused(model, names, DRAWN if side == "draw" else WRITES):
                found += [_draw(model)] if side == "draw" else _write(model)
    return found


def _draw(model: Model) -> Program:
    module, length = Drawing(model).eval(), model.tokenizers["text_encoder"].max_length
    ids, mask = torch.full((2, 5), BOS), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 4] = False
    draws = module.asked(ids, mask)
    numbers = [draw.numbers(example(2, str(n)), 5) for n, draw in enumerate(draws)]
    b, t = Dim("b", max=4096), Dim("t", min=2, max=length)
    shapes = [{0: b} | {n + 1: t for n, size in enumerate(draw.shape) if size == "t"} for draw in draws]
    program = _traced(module, (ids, mask, *numbers), ({0: b, 1: t}, {0: b, 1: t}, tuple(shapes)))
    inputs = ("ids", "mask", *(f"noise{n}" for n in range(len(draws))))
    return Program("draw", module, program, inputs, ("image",), (ids, mask, *numbers), tuple(draws), DRAWN)


def _write(model: Model) -> list[Program]:
    b, image = Dim("b", max=4096), example(2, "image").uniform(*model.image_shape) * 2 - 1
    read = Reading(model).eval()
    state = read.state(image)
    step, leaves = Step(model, state).eval(), tuple(pytree.tree_leaves(state))
    names, ids = tuple(f"state{n}" for n in range(len(leaves))), torch.full((2,), BOS)
    changed = tuple(f"new_{names[n]}" for n in step.changed)
    reading = _traced(read, (image,), ({0: b},))
    stepping = _traced(step, (ids, *leaves), ({0: b}, tuple({0: b} for _ in leaves)))
    return [
        Program("read", read, reading, ("image",), names, (image,), parts=WRITES),
        Program("step", step, stepping, ("token", *names), ("logits", *changed), (ids, *leaves), parts=WRITES[1:]),
    ]


def _traced(module: nn.Module, example: tuple[Tensor, ...], shapes: Any) -> ExportedProgram:
    with _registered(module):
        # Strict: the length of a batch, which parts ask by len(), is a number of the graph's, not of the example's.
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=True)


@contextmanager
def _registered(module: nn.Module) -> Iterator[None]:
    """Within, what parts borrow (`ibllm.plugin.borrow`) is registered with them, too: a graph has the weights of what is."""
    lent = [(holder, name, held) for holder in module.modules() for name, held in vars(holder).items() if isinstance(held, nn.Module)]
    for holder, name, held in lent:
        holder._modules[name] = held
    try:
        yield
    finally:
        for holder, name, _ in lent:
            del holder._modules[name]
