"""``ibllm attack``: how a trained model does under attack; and the attack as an environment that agents learn in."""
