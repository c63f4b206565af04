"""The self-contained report of a run."""

from .page import render

__all__ = ["render"]
