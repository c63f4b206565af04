"""The short name: ``import ibllm; ibllm.recipe("recipes/joint.toml").run()``, ``ibllm.open("runs/joint")``. Torch-free to import."""

from ibllm.api import LoadedRecipe, open, recipe

__all__ = ["LoadedRecipe", "open", "recipe"]


def __getattr__(name: str) -> str:
    """``ibllm.__version__``, looked up when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("ibllm")
