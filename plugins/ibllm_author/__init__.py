"""For authors of plugins: a new package (`scaffold`), and what there is to know of one that is installed (`review`). Torch-free to import."""
