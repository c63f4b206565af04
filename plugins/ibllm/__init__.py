"""The short name: ``import ibllm; ibllm.recipe("recipes/joint.toml").run()``. Everything lives in `ibllm_core.api`, imported on first use."""

from __future__ import annotations

from importlib import import_module


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("ibllm")
    if name.startswith("__"):  # introspection must not cost the import of the core
        raise AttributeError(f"module 'ibllm' has no attribute {name!r}")
    return getattr(import_module("ibllm_core.api"), name)
