"""Measuring what `auto` chooses from, keeping it, and fitting the speeds of predictions to it."""
