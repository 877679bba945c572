"""Batch statistics over real rows, over time and over a mesh."""
