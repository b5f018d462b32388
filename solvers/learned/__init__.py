"""What trained networks are: their architectures, stated once."""
