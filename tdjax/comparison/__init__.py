"""Comparing the ways to distribute a function over time: measured, checked, explained.

`compare` runs one function under several strategies and gives a `Comparison` of `Entry`s
and `Answer`s.
Nothing here imports Flax, matplotlib or rich until it is needed.
"""

from tdjax.comparison.api import compare
from tdjax.comparison.comparison import Comparison
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import Verdict

__all__ = ["Answer", "Comparison", "Entry", "Verdict", "compare"]
