"""The short name: ``import ibllm; ibllm.recipe("recipes/joint.toml").run()``, ``ibllm.open("runs/joint")``. Torch-free to import."""

from importlib.metadata import version

from ibllm_core.api import LoadedRecipe, open, recipe

__all__ = ["LoadedRecipe", "__version__", "open", "recipe"]

__version__ = version("ibllm")
