"""``ibllm data``: what a recipe's data are, before a step is spent. A tool; torch-free to import."""
