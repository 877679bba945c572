"""Assertions for test suites: that a function or a layer keeps its meaning over time.

`assert_same_as_loop` runs the plain Python loop, and compares what every strategy gives with it.
`assert_row_independent` asks for the proof that a fold needs, and tries to contradict it: it
changes one row at a time and looks at all others.

Both run what they test many times: give them arguments of a few rows and steps.
"""

from tdjax.testing.assertions import assert_row_independent, assert_same_as_loop
from tdjax.testing.differences import TOLERANCE

__all__ = ["TOLERANCE", "assert_row_independent", "assert_same_as_loop"]
