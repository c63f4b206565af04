"""``ibllm runs`` and ``ibllm clean``: what runs there are and what became of them, and what is left over. A tool; torch-free."""
