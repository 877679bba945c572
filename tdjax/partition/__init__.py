"""Runs calls on meshes: every device computes its own block of batch and time."""
