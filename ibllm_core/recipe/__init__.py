"""TOML files become a checked, resolved `Recipe`. Torch-free."""

from .locate import Mistake, RecipeErrors
from .reading import load
from .schema import Recipe

__all__ = ["Mistake", "Recipe", "RecipeErrors", "load"]
