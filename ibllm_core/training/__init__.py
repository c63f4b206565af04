"""Stage by stage: players, the loop, checkpoints, what validation steers."""
