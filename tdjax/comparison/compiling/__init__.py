"""Compiling for devices that are not here, by those devices' own compilers.

Nothing runs: the compiler's facts are reported. `catalog` knows the targets, `travel` packs a
function for one, `client` has it compiled in a process of its own, `queue` does so for many.
"""
