"""How a run looks on a terminal while it runs. Torch-free to import."""
