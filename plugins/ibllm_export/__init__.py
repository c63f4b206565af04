"""``ibllm export`` and ``ibllm bench``: a trained model as files that need no ibllm, and what each form of it costs. A tool; torch-free to import."""
