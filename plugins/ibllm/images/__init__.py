"""Images where they lie, as pixels of one size: looked at once, decoded when they are asked for, and kept. Torch-free."""
