"""What is installed and how recipes differ: ``ibllm plugins``, ``ibllm recipes``, ``ibllm diff``. Torch-free."""
