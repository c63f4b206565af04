"""How a plugin is told of what is being retired: by a warning with the plugin's own file and line. Torch-free.

A retired hook is marked where it is specified, ``@hookspec(warn_on_impl=retires(…))``, a retired argument of one with
``@hookspec(warn_on_impl_args={"argument": retires(…)})``. The policy is in ``docs/explanation/versioning.md``.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from .spec import API, OLDEST, ComponentSpec


class PluginDeprecationWarning(FutureWarning):
    """A plugin uses what a later ibllm will not have. Shown by default: who runs the plugin has to know before it stops working."""


def retires(what: str, instead: str, api: int) -> PluginDeprecationWarning:
    """The warning for `what`, which plugins of interface version `api` and later may not use; `instead` says what to do."""
    return PluginDeprecationWarning(f"{what} goes with version {api} of the plugin interface; {instead}")


def check_api(spec: ComponentSpec, function: Callable[..., Any]) -> None:
    """Warns where a spec, given by `function`, was written for a version of the interface that is accepted for a while only."""
    if OLDEST <= spec.api < API:
        what = f"version {spec.api} of the plugin interface, which {spec.kind}.{spec.name} was written for,"
        told = PluginDeprecationWarning(f"{what} is still accepted, but will not be for ever; write it for version {API}")
        code = inspect.unwrap(function).__code__
        warnings.warn_explicit(told, PluginDeprecationWarning, code.co_filename, code.co_firstlineno)


@contextlib.contextmanager
def attributed(origin: object) -> Iterator[None]:
    """Puts the distribution before every `PluginDeprecationWarning` from within; other warnings pass as they are."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:  # what was warned of may explain what was raised
        for found in caught:
            ours = issubclass(found.category, PluginDeprecationWarning)
            message = PluginDeprecationWarning(f"{origin}: {found.message}") if ours else found.message
            warnings.warn_explicit(message, found.category, found.filename, found.lineno)
