"""What recipes are and what is installed: ``ibllm check``, ``ibllm plugins``, ``ibllm recipes``, ``ibllm diff``. Torch-free to import."""
