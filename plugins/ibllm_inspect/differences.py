"""What really differs between two recipes. Torch-free."""

from __future__ import annotations

from ibllm_core.recipe.changes import differing, in_words
from ibllm_core.recipe.resolve import resolved
from ibllm_core.recipe.schema import Recipe


def differences(before: Recipe, after: Recipe) -> list[str]:
    """``key.path: a → b`` for each option that differs; a component that is added, removed or replaced takes one line."""
    return [in_words(one) for one in differing(resolved(before), resolved(after))]
