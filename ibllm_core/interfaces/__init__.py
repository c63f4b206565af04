"""What a component of each kind has to be, and what passes between them."""
