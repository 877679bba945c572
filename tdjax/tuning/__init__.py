"""Measuring what `auto` chooses from, keeping the results, and fitting speeds to them."""
