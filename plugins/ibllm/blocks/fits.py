"""What the options of several families check: sizes that have to divide each other. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable


def check_heads(width: int | None, heads: int) -> None:
    """Raises `ValueError` if attention heads do not share a width evenly; a width that follows the model is checked when the part is built."""
    if width is not None and width % heads:
        raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")


def check_groups(channels: Iterable[int], groups: int) -> None:
    """Raises `ValueError` if group norms of `groups` groups do not fit every number of channels."""
    for uneven in (c for c in channels if c % groups):
        raise ValueError(f"groups = {groups}: expected a divisor of every number of channels, and {uneven} is none")
