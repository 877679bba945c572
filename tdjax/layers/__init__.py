"""What both Flax wrappers share: a layer as a pure function, run over time."""
