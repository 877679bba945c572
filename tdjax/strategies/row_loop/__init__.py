"""A loop over blocks of real rows, with derivatives of its own."""
