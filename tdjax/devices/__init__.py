"""Devices: the attached one, and what is known of each kind: the files beside this one."""
