"""Ablation studies: a TOML file over a base recipe → runs → tables that a reviewer would accept. Torch-free but for the worker."""
