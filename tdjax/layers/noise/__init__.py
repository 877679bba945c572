"""A key for every step, and folded noise with the bits of each step."""
