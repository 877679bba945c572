"""Measuring the speeds that `auto` predicts from, on the machine at hand, in half a minute."""

from tdjax.comparison.calibration.calibrating import calibrate, calibrate_first

__all__ = ["calibrate", "calibrate_first"]
