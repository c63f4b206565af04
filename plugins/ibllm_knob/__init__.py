"""``ibllm knob``: numbers that are turned while a run trains. A tool; torch-free to import."""
