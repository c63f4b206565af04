"""What is being retired: a plugin that uses it is warned of, with the plugin's own file and line. Torch-free.

A retired hook is marked where it is specified, ``@hookspec(warn_on_impl=retires(…))``, a retired argument of one with
``@hookspec(warn_on_impl_args={"argument": retires(…)})``. The policy is in ``docs/explanation/versioning.md``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
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
        told = f"{spec.kind}.{spec.name} was written for version {spec.api} of the plugin interface, which is still accepted; write it for {API}"
        code = inspect.unwrap(function).__code__
        warnings.warn_explicit(told, PluginDeprecationWarning, code.co_filename, code.co_firstlineno)
