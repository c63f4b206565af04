"""What a component is handed it leaves as it is: others read it too. Told by the counter of in-place changes that autograd keeps for each tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from torch import Tensor

from ..model.cycle import Cycle
from .shapes import expect

#: What a loss may ask a cycle for and others may ask for as well.
_SHARED = {
    *("x", "x_out", "y", "texts", "images", "question", "answer", "image_ids", "noise", "z_x", "z_y", "z_images", "z_fake", "y_fake"),
    *("image_nll", "text_nll", "cycle_nll", "answer_nll", "reconstruction"),
}


@contextmanager
def unchanged(**inputs: Any) -> Iterator[None]:
    """Raises `UserError` where a tensor of the inputs is changed in place within."""
    before = {name: versions(given) for name, given in inputs.items()}
    yield
    _compare(inputs, before)


class GuardedCycle(Cycle):
    """A cycle that remembers what it handed out."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in _SHARED:
            handed = super().__getattribute__("__dict__").setdefault("_handed", {})
            handed.setdefault(name, (found, versions(found)))
        return found

    def check(self) -> None:
        """Raises `UserError` where something that was handed out has been changed in place since."""
        handed = self.__dict__.get("_handed", {})
        _compare({name: found for name, (found, _) in handed.items()}, {name: before for name, (_, before) in handed.items()})


def versions(given: Any) -> tuple[int, ...]:
    """How often each of the tensors in it has been changed in place."""
    if isinstance(given, Tensor):
        return (given._version,)
    if attrs.has(type(given)):
        return tuple(number for field in attrs.fields(type(given)) for number in versions(getattr(given, field.name)))
    return ()


def _compare(inputs: Mapping[str, Any], before: Mapping[str, tuple[int, ...]]) -> None:
    changed = [name for name, given in inputs.items() if versions(given) != before[name]]
    expect(not changed, f"it changes what it is handed in place ({', '.join(changed)}), which others read too; it has to work on a copy")
