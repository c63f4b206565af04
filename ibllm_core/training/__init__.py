"""A recipe, trained: data, the loop over a stage, checkpoints, processes, events."""
