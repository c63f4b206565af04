"""Options that may be changed while a trained model is used: ``option(..., live=True)``. They are in effect within `changed`, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.errors import UserError, suggestion
from ibllm_core.host.options import Config

if TYPE_CHECKING:
    from torch import nn

__all__ = ["changed", "live_options"]


def live_options(config: Config) -> dict[str, Any]:
    """The options that may be changed in use, by the name that a recipe uses → their values."""
    found = (field for field in attrs.fields(type(config)) if field.metadata.get("live") is True)
    return {field.metadata.get("key") or field.name: getattr(config, field.name) for field in found}


@contextmanager
def changed(part: nn.Module, config: Config, values: Mapping[str, Any], name: str) -> Iterator[None]:
    """Within, live options of a part have other values; those that are None stay as they are.

    Every module of the part that holds the config gets the other one, which is why a part reads such options off its `config` whenever it uses them.

    Args:
        config: the part's.
        name: of the component, for messages.

    Raises:
        UserError: the component has no such live option (says which it has), or a value is out of range.
    """
    wanted = {option: value for option, value in values.items() if value is not None}
    if not wanted:
        yield
        return
    there = live_options(config)
    for option in wanted:
        if option not in there:
            has = suggestion(option, there) if there else "it has none"
            raise UserError(f"{option}: {name} has no such option that may be changed in use; {has}")
    keys = {field.metadata.get("key") or field.name: field.name for field in attrs.fields(type(config))}
    given = {keys[option]: value for option, value in wanted.items()}
    owners = [module for module in part.modules() if isinstance(getattr(module, "config", None), type(config))]
    own: list[Any] = [module.config for module in owners]
    try:
        others = [attrs.evolve(config, **given) for config in own]
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}") from error
    try:
        for module, other in zip(owners, others, strict=True):
            module.config = other
        yield
    finally:
        for module, before in zip(owners, own, strict=True):
            module.config = before
