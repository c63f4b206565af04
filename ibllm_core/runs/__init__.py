"""What a run leaves: its directory, the model folder, what it was made with, its figures."""
