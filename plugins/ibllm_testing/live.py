"""What is asked of options that may be changed in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
from torch import Tensor, nn

from ibllm.live import changed, live_options
from ibllm_core.host.options import Config

from .checks import same


def live_options_act(name: str, part: nn.Module, config: Config, build: Callable[[Config], Any], samples: Callable[[Any], Any]) -> None:
    """Each live option, changed in use, gives what a part gives that is built with the other value and has the same weights; afterwards all is as before."""
    found = {key: other for key in live_options(config) if (other := another(config, key)) is not None}
    before: dict[str, Tensor] = samples(part) if found else {}
    for key, other in found.items():
        built = build(other)
        built.load_state_dict(part.state_dict())
        because = f"{name}: {key} is live, but changed in use it does not do what it does in a part that is built so; read it off self.config when it is used"
        with changed(part, config, {key: live_options(other)[key]}, name):
            same(samples(part), samples(built.eval()), because)
    if found:
        same(samples(part), before, f"{name}: what was changed in use stays changed afterwards")


def another(config: Config, key: str) -> Config | None:
    """The config with another value of the option; None where its other options allow none."""
    field = next(field for field in attrs.fields(type(config)) if (field.metadata.get("key") or field.name) == key)
    for value in _candidates(getattr(config, field.name), field.metadata.get("range", "")):
        with suppress(ValueError, TypeError):
            return attrs.evolve(config, **{field.name: value})
    return None


def _candidates(value: Any, allowed: str) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (type(value)(other) for other in (value + 1, value + 0.5, value / 2, value - 1) if type(value)(other) != value)
    else:  # one of some words, which stand in quotes
        yield from (word for word in allowed.split("'")[1::2] if word != value)
