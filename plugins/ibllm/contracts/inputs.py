"""The meta device: what components are handed there, what they have to give, that they leave alone what others read too, and what it costs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.model.model import Model
from ibllm_core.recipe.schema import Recipe

META = torch.device("meta")


def fabricate(model: Model, items: int, device: torch.device) -> Batch:
    """A batch of the right shapes and no meaning, with all that data can give."""

    def text(part: str, most: int | None = None) -> Tokens | None:
        if part not in model.tokenizers:
            return None
        ids = torch.ones(items, model.tokenizers[part].max_length, dtype=torch.int64, device=device)[:, :most]
        return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))

    y, unpaired_y = (torch.zeros(items, *model.image_shape, device=device) for _ in range(2))
    x, unpaired_x, written = text("text_encoder"), text("text_encoder"), text("text_decoder")
    given: dict[str, Any] = {
        "x": x,
        "x_out": written,
        "question": written,
        "answer": written,
        "language": text("language", 4),
        "unpaired_x": unpaired_x,
    }
    return Batch(numbers=np.arange(items), y=y, unpaired_y=unpaired_y, **given)


def as_given(recipe: Recipe, batch: Batch) -> Batch:
    """The batch without what the recipe's data do not give."""
    fields = {"captions": ("x", "x_out", "language"), "images": ("y",), "questions": ("question", "answer")}
    fields |= {"unpaired.text": ("unpaired_x",), "unpaired.images": ("unpaired_y",)}
    given = {*recipe.data.config.provides(), *(f"unpaired.{name}" for name in recipe.unpaired)}
    missing: dict[str, Any] = {field: None for source, of in fields.items() if source not in given for field in of}
    return attrs.evolve(batch, **missing)


class Handed:
    """What has been handed out; `check` finds what was changed in place since, by the counter that autograd keeps for each tensor."""

    def __init__(self, **given: Any) -> None:
        self._handed = {name: (value, _versions(value)) for name, value in given.items()}

    def add(self, name: str, given: Any) -> None:
        self._handed.setdefault(name, (given, _versions(given)))

    def check(self) -> None:
        """Raises `UserError` where something was changed."""
        changed = ", ".join(name for name, (given, before) in self._handed.items() if _versions(given) != before)
        expect(not changed, f"it changes what it is handed in place ({changed}), which others read too; it has to work on a copy")


def _versions(given: Any) -> tuple[int, ...]:
    """How often each of the tensors in it has been changed in place."""
    if attrs.has(type(given)):
        return tuple(number for value in attrs.astuple(given, recurse=False) for number in _versions(value))
    return (given._version,) if isinstance(given, Tensor) else ()


def expect_shape(what: str, tensor: Any, axes: str, sizes: MutableMapping[str, int]) -> None:
    """Raises `UserError` where the axes, in einops notation, have other sizes. An axis that has none yet gets what is found."""
    expect(isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}, not a tensor")
    found, names = tuple(tensor.shape), axes.split()
    wrong = [axis for axis, size in zip(names, found, strict=False) if sizes.get(axis, size) != size]
    if wrong or len(found) != len(names):
        wanted = " ".join(f"{axis}={sizes.get(axis, 'any')}" for axis in names)
        blame = f", axis {', '.join(wrong)} is wrong" if len(found) == len(names) else ""
        raise UserError(f"{what} has shape {found}, the interface says ({axes}) with {wanted or 'no axes'}{blame}")
    sizes.update(zip(names, found, strict=True))


def expect(true: bool, problem: str) -> None:
    if not true:
        raise UserError(problem)


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, `flops` grows by what each operation costs, by torch's own formulas (those of `torch.utils.flop_counter.FlopCounterMode`).

    What an operation gives on the meta device depends on its arguments' shapes alone, but most are written in Python there and take long. So the
    results of operations that neither change nor share what they are given are remembered, for all checks of a process: the walks of one check
    ask for the same ones many times, and so do those of a study's arms.
    """

    _seen: ClassVar[dict[Any, tuple[int, Any]]] = {}
    _MOST = 20_000

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        key = (func, _described(args), _described(tuple(kwargs.items())), torch.get_default_dtype()) if _is_pure(func) else None
        if key in self._seen:
            flops, known = self._seen[key]
            out = _alike(known)
        else:
            out = func(*args, **kwargs)
            formula = flop_registry.get(func._overloadpacket)
            flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=out))
            on_meta = all(leaf is None or (isinstance(leaf, Tensor) and leaf.device == META) for leaf in tree_leaves(out))
            if key is not None and on_meta and len(self._seen) < self._MOST:
                self._seen[key] = flops, _alike(out)
        self.flops += flops
        return out


@functools.cache
def _is_pure(func: Any) -> bool:
    """False for views and for operations that write into their arguments."""
    schema = func._schema
    return all(value.alias_info is None for value in (*schema.arguments, *schema.returns))


def _described(value: Any) -> Any:
    """All of a value that decides what an operation gives on the meta device, as a key."""
    if isinstance(value, Tensor):
        return Tensor, value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return type(value), *map(_described, value)
    return type(value), value  # with its type: True and 1 are equal


def _alike(out: Any) -> Any:
    """New tensors of the same sizes: what autograd hangs on a result belongs to that one alone."""
    if isinstance(out, Tensor):
        return torch.empty_strided(out.shape, out.stride(), dtype=out.dtype, device=out.device)
    return type(out)(map(_alike, out)) if isinstance(out, tuple | list) else out
