"""Kinds of devices, and what is known of each: the files beside this one."""
