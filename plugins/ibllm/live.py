"""Options that may be changed while a trained model is used: ``option(..., live=True)``. They are in effect within `changed`, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.errors import UserError, suggestion

if TYPE_CHECKING:
    from torch import nn

    from ibllm_core.recipe.schema import Component

__all__ = ["changed", "live_options"]


def live_options(component: Component) -> dict[str, Any]:
    """A component's options that may be changed in use, by the name that a recipe uses → their values."""
    config = component.config
    found = (field for field in attrs.fields(type(config)) if field.metadata.get("live"))
    return {field.metadata.get("key") or field.name: getattr(config, field.name) for field in found}


@contextmanager
def changed(part: nn.Module, component: Component, values: Mapping[str, Any]) -> Iterator[None]:
    """Within, the live options of a part have other values; those that are None stay as they are.

    Raises:
        UserError: the component has no such live option (says which it has), or a value is out of range.
    """
    wanted = {name: value for name, value in values.items() if value is not None}
    if not wanted:
        yield
        return
    there, name = live_options(component), f"{component.kind}.{component.use}"
    for option in wanted:
        if option not in there:
            has = suggestion(option, there) if there else "it has none"
            raise UserError(f"{option}: {name} has no such option that may be changed in use; {has}")
    keys = {field.metadata.get("key") or field.name: field.name for field in attrs.fields(type(component.config))}
    given = {keys[option]: value for option, value in wanted.items()}
    owners = [module for module in part.modules() if isinstance(getattr(module, "config", None), type(component.config))]
    own: list[Any] = [module.config for module in owners]
    try:
        others = [attrs.evolve(config, **given) for config in own]
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}") from error
    try:
        for module, config in zip(owners, others, strict=True):
            module.config = config
        yield
    finally:
        for module, config in zip(owners, own, strict=True):
            module.config = config
