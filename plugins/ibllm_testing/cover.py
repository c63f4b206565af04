"""A suite's tests for every component of a kind that a distribution offers: one that is added is tested without a new test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ibllm_core.host import manager as plugins

from .suite import Suite


def cover(
    suite: type[Suite], distribution: str, presets: Mapping[str, Mapping[str, Any]] | None = None, but: Collection[str] = ()
) -> dict[str, type[Suite]]:
    """Class name (`title`) → a subclass of `suite` for each component, for a test module's ``globals().update(…)``.

    Args:
        distribution: the package whose components are tested.
        presets: component, or ``component/variant`` for a second set of options → attributes of its class (``options``, ``never_trained``, …).
        but: components whose classes are written by hand.
    """
    own = [row.name for row in plugins.manager().rows() if (row.kind, row.distribution, row.status) == (suite.kind, distribution, "ok")]
    given = dict(presets or {})
    unknown = {name.partition("/")[0] for name in given} - set(own)
    assert not unknown, f"presets for {', '.join(sorted(unknown))}, which {distribution} does not offer as {suite.kind}: {', '.join(own)}"
    wanted = {name: given.get(name, {}) for name in [*own, *given] if name not in but}
    return {
        title(name): type(title(name), (suite,), {"component": name.partition("/")[0], **attributes}) for name, attributes in wanted.items()
    }


def title(name: str) -> str:
    """The class of a component: its name as it is, so that a-b and a_b have one each. pytest does not ask for an identifier."""
    return f"Test_{name}"
