"""Measuring on devices that are attached: programs, rounds, first calls, memory, agreement."""
