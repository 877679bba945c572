"""Refusals of programs that turned out to be the loop all the same: which are known, and why.

Anything else is a failure: refused without need.
"""

from __future__ import annotations

import re

# The operation does mix rows, or reads their number; that it does not show in the outputs of this
# program, or only for other values, no look at the equations can tell.
_HIDDEN = [
    r"(reduces|accumulates|sorts|transforms|slides windows|picks the largest|sums) .*(the|of) rows",
    r"reverses the order of the rows|repeats the rows|pads the rows|splits the rows",
    r"(takes|picks|writes into) some of the rows",
    r"multiplies rows with other rows|combines values whose rows lie along different axes",
    r"reads rows at places that other rows say|writes rows at places that other rows say",
    r"has rows along more than one axis|adds rows to the rows|joins rows with a value",
    r"(depends on|reads|changes) the (number of rows|size of the batch)",
    r"closes over arrays that depend on the size of the batch",
    r"cannot be traced on a batch of another size|does not occur in this place|another (form|type)",
    r"numbers the rows|makes rows from their number alone|loops as many times as there are rows",
    r"draws noise for all rows from one key|whose noise depends on how many keys",
    r"carries something from row to row|reshapes .* across the rows|takes the rows for",
    r"convolves (along the rows|with a kernel)",
    r"does not treat every row's part of a sum alike|a sum over all rows, of which",
    r"gives a shared array the same gradient|that moves the rows|other inputs for another size",
    r"goes round as often as some row says|joins values whose rows lie",
]
# The operation is fine, and the rules do not see it.
KNOWN = {
    r"not zero where the cotangent is zero": (
        "what a rule adds in rows that fill a block leads to no shared array here"
    ),
    r"takes a value of one step together with rows of many": (
        "loops, branches and rules take no value of a step beside rows"
    ),
    r"(reads|writes) rows of many steps at places that one step says|starts a slice at an index": (
        "places that a step says are not laid out by row"
    ),
    r"mixes numbers of many steps into the key|gives every step its own array": (
        "values of a step are not laid out by row"
    ),
    r"mixes a value of one step with rows|with a matrix of one step|(together with|beside) a value": (  # noqa: E501
        "values of a step are not laid out by row"
    ),
    r"writes rows into a shared array, or a shared array into rows": (
        "a shared array is not laid out by row to be written into rows"
    ),
    r"writes into rows something that does not have the same rows": (
        "a shared array is not laid out by row to be written into rows"
    ),
    r"solves rows together with a matrix": "a shared matrix is not laid out by row to be solved",
    r"that its mask keeps first": "packed calls inside a step are not followed",
    r"goes round as often as one step says": "a number of turns that a step says is not laid out",
    r"loops over rows with something at hand": "values of a step are not laid out by row",
    r"differentiation of a custom_vjp function with respect to a closed-over value": (
        "rules that close over arrays cannot be derived once more"
    ),
    r"calls a function on the host": "what a function on the host does, nobody knows",
    r"`(ragged_dot_general|threefry2x32|rng_bit_generator|custom_lin|remat_opt)`.* no rule": (
        "no rule has been written"
    ),
    r"draws from key<\w+> keys of the rows": "generators other than Threefry are not followed",
    r"pads with a value that is not shared|that is not shared by all rows": (
        "scalars of a step are not laid out by row"
    ),
}
HIDDEN = "an operation mixes rows where this program does not show it"


def known_refusal(reason: str) -> str:
    """Return why a program may be refused that would have been the loop; "" if it may not."""
    for pattern, why in KNOWN.items():
        if re.search(pattern, reason, re.DOTALL):
            return why
    return HIDDEN if any(re.search(each, reason, re.DOTALL) for each in _HIDDEN) else ""
