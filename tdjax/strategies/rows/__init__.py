"""Rows of many steps as one batch: folding, blocks, padding, and outputs by row."""
