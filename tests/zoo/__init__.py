"""Models by others, from PyPI (`pip install -e '.[zoo]'`), under all strategies against the loop.

`python -m tests.zoo` checks all of them; it is not part of the suite.
"""
