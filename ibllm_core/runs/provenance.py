"""What a run records of where it comes from: its components. Torch-free."""

from __future__ import annotations

from ..host.manager import manager
from ..recipe.schema import Recipe


def provenance(recipe: Recipe, whole: bool = False) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, and if `whole` what their options say of what they name, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
    for path, component in recipe.components().items() if whole else ():
        found[path] |= component.config.provenance()
    for name in recipe.plugins.hooks:
        origin = manager(recipe.plugins.block).plugin(name).origin
        found[f"plugins.hooks.{name}"] = {"component": name, "distribution": origin.distribution, "version": origin.version}
    return found
