"""Random step programs, held against the Python loop: `python -m tests.fuzz --minutes N --seed S`.

A program is generated from the table of primitives that the proof reads (`operations/` says how
each is called, with numbers that may follow the batch), is data that can be made smaller, and is
written out as the Python code that runs. Both answers are checked: what is proven equals the loop,
in values, gradients and second derivatives; what is refused depends on other rows or on their
number, or its reason is listed in `refusals.py`.
"""
