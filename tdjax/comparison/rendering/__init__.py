"""How a comparison is shown; none of these imports another."""
