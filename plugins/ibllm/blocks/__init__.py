"""Layers and functions that parts of several families share."""
