"""A suite's tests for every component of a kind that a distribution offers: one that is added is tested without a new test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ibllm_core.errors import suggestion
from ibllm_core.host import manager as plugins
from ibllm_inspect.presets import packaged_presets

from .suite import Suite


def cover(
    suite: type[Suite], distribution: str, presets: Mapping[str, Mapping[str, Any]] | None = None, but: Collection[str] = ()
) -> dict[str, type[Suite]]:
    """Class name (`title`) → a subclass of `suite` for each component, for a test module's ``globals().update(…)``.

    Args:
        distribution: the package whose components are tested.
        presets: component, or ``component/variant`` for a second set of options → attributes of its class (``options``, ``never_trained``, …).
            They are laid over those that the package brings (``conformance.toml``), options one by one.
            Variants leave out the suite's `once`: checks that other options cannot change, which the component itself is asked.
        but: components whose classes are written by hand.
    """
    own = [row.name for row in plugins.manager().rows() if (row.kind, row.distribution, row.status) == (suite.kind, distribution, "ok")]
    brought = packaged_presets(distribution).get(suite.kind, {})
    given = {name: _laid_over(brought.get(name, {}), (presets or {}).get(name, {})) for name in [*brought, *(presets or {})]}
    unknown = {name.partition("/")[0] for name in given} - set(own)
    assert not unknown, f"presets for {', '.join(sorted(unknown))}, which {distribution} does not offer as {suite.kind}: {', '.join(own)}"
    for name, attributes in given.items():
        for attribute in attributes:
            known = [word for word in dir(suite) if not word.startswith(("_", "test_"))]
            assert attribute in known, f"the presets of {suite.kind}.{name} give {attribute!r}; {suggestion(attribute, known)}"
    wanted = {name: given.get(name, {}) for name in dict.fromkeys([*own, *given]) if name.partition("/")[0] not in but}
    made: dict[str, type[Suite]] = {}
    for name, attributes in wanted.items():
        component, variant, _ = name.partition("/")
        left_out = dict.fromkeys(suite.once) if variant else {}  # what is None is no test
        made[title(name)] = type(title(name), (suite,), {**left_out, "component": component, **attributes})
    return made


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    options = {**below.get("options", {}), **above.get("options", {})}
    return {**below, **above, **({"options": options} if options else {})}


def title(name: str) -> str:
    """The class of a component: its name as it is, so that a-b and a_b have one each. pytest does not ask for an identifier."""
    return f"Test_{name}"
