"""Worlds larger than a model's canvas: `ibllm_scene.world.draw` and the command ``ibllm scene``."""
