"""Compiling for devices that are not here, by those devices' own compilers.

Nothing runs: the compiler's facts are reported. `travel` packs a function for a device, `client`
has it compiled in another process, `queue` does so for many.
"""
