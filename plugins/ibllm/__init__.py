"""The short name: ``import ibllm; ibllm.recipe("recipes/joint.toml").run()``, ``ibllm.open("runs/joint")``.

Torch-free to import, and what is asked for is imported then: every plugin imports this package on its way to `ibllm.plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibllm.api import LoadedRecipe, Run, Trained, from_pretrained, open, recipe
    from ibllm_study.saved import study

__all__ = ["LoadedRecipe", "Run", "Trained", "from_pretrained", "open", "recipe", "study"]

#: What a tool gives; tools import this package, and not the other way round.
_OF_TOOLS = {"study": "ibllm_study.saved:study"}


def __getattr__(name: str) -> Any:
    """What `ibllm.api` has; ``ibllm.__version__``."""
    if name in _OF_TOOLS:
        import pkgutil

        return pkgutil.resolve_name(_OF_TOOLS[name])
    if name in __all__:
        from ibllm import api

        return getattr(api, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("ibllm")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
