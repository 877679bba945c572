"""The machine around a comparison: processes, memory, the terminal, interrupts."""
