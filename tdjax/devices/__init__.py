"""Devices: their kinds, their caches, and what the files beside this one know of them."""
