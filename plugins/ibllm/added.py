"""What an option may say of itself beside its meaning and its range: that it came with a later version, that it weighs. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs


def added(declared: Any) -> Any:
    """Declares an `option` that a component got after it was first released, with a default that does what was done without it.

    While a recipe leaves it at that, a study's runs keep the names that they had, so that studies go on: ``added(option(8, help="…"))``.
    """
    declared.metadata["added"] = True
    return declared


def weighs(declared: Any) -> Any:
    """Declares a live `option` of a loss that is read within `Cycle.at` alone: captured iterations follow it, where they hold others fast."""
    declared.metadata["weighs"] = True
    return declared


def as_before(field: attrs.Attribute[Any], value: Any) -> bool:
    """Whether an option was added later and has its default."""
    return bool(field.metadata.get("added")) and value == field.default
