"""``ibllm profile``: where a training's time goes, stage by stage. A tool; torch-free to import."""
