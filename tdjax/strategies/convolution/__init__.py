"""Convolutions in forms that are fast inside loops and blocks on a CPU."""
