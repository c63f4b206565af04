"""What a plugin is: options, hooks, how it is found and loaded, whose fault it is where something goes wrong. Torch-free."""
