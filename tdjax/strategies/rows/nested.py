"""Values of one step inside loops and branches, in the two halves of `step_values`.

What a scanned body finds for the rows in each of its turns is stacked by the scan, and is one more
thing that the other half scans over. Of branches, all find something, and that of those not taken
is zeros. A branch that one step takes and another does not is computed for all rows, and each row
takes from its own; what enters a branch is, in the rows that do not take it, a copy of a row that
does: it may be singular for them, and a cotangent of zero times infinity is not zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import cut, is_key, keys_of
from tdjax.core.call import as_array
from tdjax.core.jaxpr import scan_counts
from tdjax.independence import STEP, Kind, Rows
from tdjax.independence.row_numbers import Numbers
from tdjax.independence.rules.rule import Step
from tdjax.strategies.rows.layout import rows_back, rows_first

Found = list[Any]
Collect = Callable[[Any, Sequence[Step], list[Any]], tuple[list[Any], Found]]
"""Evaluates what depends on no row in a program; returns its outputs, and what it finds."""
Compute = Callable[[Any, Sequence[Step], list[Any], Iterator[Any]], list[Any]]
"""Evaluates a program on rows, with what was found."""


def program_of(program: Any) -> tuple[Any, Any]:
    """Return the equations and the constants of a program inside an equation."""
    return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def _arrays(values: Sequence[Any], atoms: Sequence[Any]) -> list[Any]:
    """Return numbers that stand in the program as arrays; None for what has no value here."""
    pairs = zip(values, atoms, strict=True)
    return [None if value is None else as_array(value, atom.aval) for value, atom in pairs]


# --- loops of a known number of turns ---------------------------------------------------------


def collect_scan(
    collect: Collect, eqn: Any, step: Step, values: list[Any], time: Any
) -> tuple[list[Any], Found]:
    """Return the outputs without rows, time leading, and what each turn finds, rows leading."""
    body, (steps,) = eqn.params["jaxpr"], step.inner
    avals = [atom.aval for atom in program_of(body)[0].outvars]
    first, count = scan_counts(eqn)
    kinds = step.outputs[:count], step.outputs[count:]
    consts, carry, xs = values[:first], values[first : first + count], values[first + count :]
    carry = _kept(carry, kinds[0], [atom.aval for atom in eqn.invars[first:]], time)
    xs = [
        jnp.moveaxis(x, 1, 0) if kind is STEP else x
        for x, kind in zip(xs, step.inputs[first + count :], strict=True)
    ]

    def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], Any]:
        outputs, found = collect(body, steps, [*consts, *carry, *xs])
        after = _kept(outputs[:count], kinds[0], avals, time)
        return after, (_kept(outputs[count:], kinds[1], avals[count:], time), found)

    carry, (ys, found) = _scan(turn, carry, xs, eqn)
    ys = [
        jnp.moveaxis(y, 0, 1) if kind is STEP else y for y, kind in zip(ys, kinds[1], strict=True)
    ]
    return [*carry, *ys], [jnp.moveaxis(value, 0, 1) for value in found]


def compute_scan(
    compute: Compute, eqn: Any, step: Step, values: list[Any], found: Found
) -> list[Any]:
    """Return the outputs that have rows, or are the same for all steps."""
    body, (steps,) = eqn.params["jaxpr"], step.inner
    avals = [atom.aval for atom in program_of(body)[0].outvars]
    first, count = scan_counts(eqn)
    kinds = step.outputs[:count], step.outputs[count:]
    consts, carry, xs = values[:first], values[first : first + count], values[first + count :]

    def turn(carry: list[Any], given: Any) -> tuple[list[Any], list[Any]]:
        xs, needed = given
        outputs = compute(body, steps, [*consts, *carry, *xs], iter(needed))
        after = _shared(outputs[:count], kinds[0], avals)
        return after, _shared(outputs[count:], kinds[1], avals[count:])

    carry = _shared(carry, kinds[0], [atom.aval for atom in eqn.invars[first:]])
    stacked = [jnp.moveaxis(value, 1, 0) for value in found]
    carry, ys = _scan(turn, carry, (xs, stacked), eqn)
    return [*carry, *ys]


def _scan(turn: Callable[..., Any], carry: Any, xs: Any, eqn: Any) -> tuple[Any, Any]:
    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, outputs = jax.lax.scan(turn, carry, xs, **options)
    return carry, outputs


def _kept(values: Sequence[Any], kinds: Sequence[Kind], avals: Sequence[Any], time: Any) -> list:
    """Return values without rows, those of one step with time leading; None for the others."""
    kept: list[Any] = []
    for value, kind, aval in zip(values, kinds, avals, strict=False):
        if isinstance(kind, Rows):
            kept.append(None)
            continue
        value = as_array(value, aval)
        if kind is STEP and value.ndim == len(aval.shape):
            value = jnp.broadcast_to(value, (time, *value.shape))
        kept.append(value)
    return kept


def _shared(values: Sequence[Any], kinds: Sequence[Kind], avals: Sequence[Any]) -> list[Any]:
    """Return values that are not of one step; None for the others."""
    return [
        None if kind is STEP else as_array(value, aval)
        for value, kind, aval in zip(values, kinds, avals, strict=False)
    ]


# --- loops of a number of turns that rows decide ----------------------------------------------


def collect_while(
    collect: Collect, eqn: Any, step: Step, values: list[Any]
) -> tuple[list[Any], Found]:
    """Return what rows need in every turn, which is the same in all of them."""
    consts, body_consts, carry = _while_parts(eqn, values)
    unknown = [None] * len(carry)
    _, found = collect(eqn.params["cond_jaxpr"], step.inner[0], [*consts, *unknown])
    _, more = collect(eqn.params["body_jaxpr"], step.inner[1], [*body_consts, *unknown])
    return [None] * len(carry), [*found, *more]


def compute_while(
    compute: Compute, eqn: Any, step: Step, values: list[Any], found: Found, tested: int
) -> list[Any]:
    """Return what has gone round; the first `tested` things found are for the predicate."""
    consts, body_consts, carry = _while_parts(eqn, values)
    needed, more = found[:tested], found[tested:]
    avals = [atom.aval for atom in eqn.outvars]

    def again(carry: list[Any]) -> Any:
        (each,) = compute(eqn.params["cond_jaxpr"], step.inner[0], [*consts, *carry], iter(needed))
        return jnp.asarray(each)

    def turn(carry: list[Any]) -> list[Any]:
        outputs = compute(
            eqn.params["body_jaxpr"], step.inner[1], [*body_consts, *carry], iter(more)
        )
        new = [as_array(value, aval) for value, aval in zip(outputs, avals, strict=True)]
        going = again(carry)
        if not going.ndim:
            return new
        # What a predicate with axes means: whatever is done stays as it is.
        return [
            jnp.where(going.reshape(*going.shape, *[1] * (after.ndim - going.ndim)), after, before)
            for after, before in zip(new, carry, strict=True)
        ]

    carry = [as_array(value, aval) for value, aval in zip(carry, avals, strict=True)]
    return jax.lax.while_loop(lambda carry: again(carry).any(), turn, carry)


def _while_parts(eqn: Any, values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    return values[:first], values[first : first + second], values[first + second :]


# --- branches ---------------------------------------------------------------------------------


def collect_cond(
    collect: Collect, eqn: Any, step: Step, values: list[Any], time: Any
) -> tuple[list[Any], Found]:
    """Return the outputs without rows, and what all branches find."""
    which, *operands = _arrays(values, eqn.invars)
    avals = [atom.aval for atom in eqn.outvars]

    def branch(number: int, given: list[Any]) -> tuple[list[Any], Found]:
        outputs, found = collect(eqn.params["branches"][number], step.inner[number], given)
        return _kept(outputs, step.outputs, avals, time), found

    count = len(step.inner)
    if step.inputs[0] is not STEP:
        sizes = [jax.eval_shape(functools.partial(branch, k, operands))[1] for k in range(count)]

        def taken(number: int) -> tuple[list[Any], list[Found]]:
            outputs, found = branch(number, operands)
            rest = [jax.tree.map(_zeros, each) for each in sizes]
            return outputs, [*rest[:number], found, *rest[number + 1 :]]

        branches = [functools.partial(taken, number) for number in range(count)]
        outputs, found = jax.lax.switch(which, branches)
        return outputs, [value for each in found for value in each]
    results: list[list[Any]] = []
    needed: Found = []
    for number in range(count):
        outputs, found = branch(number, _entering(operands, step.inputs[1:], which == number))
        results.append(outputs)
        needed += found
    kinds: list[Kind] = [Rows(0)] * len(avals)  # time leads as rows do
    return _chosen(results, kinds, which), needed


def compute_cond(
    compute: Compute, eqn: Any, step: Step, values: list[Any], found: Found, counts: Sequence[int]
) -> list[Any]:
    """Return the outputs that have rows; each branch needs its count of what was found."""
    which, *operands = _arrays(values, eqn.invars)
    avals = [atom.aval for atom in eqn.outvars]
    ends = [sum(counts[: k + 1]) for k in range(len(counts))]
    parts = [found[end - count : end] for end, count in zip(ends, counts, strict=True)]

    def branch(number: int, given: list[Any], needed: Found) -> list[Any]:
        program, steps = eqn.params["branches"][number], step.inner[number]
        return _shared(compute(program, steps, given, iter(needed)), step.outputs, avals)

    if step.inputs[0] is not STEP:
        branches = [
            lambda k=k, part=part: branch(k, operands, part) for k, part in enumerate(parts)
        ]
        outputs: list[Any] = jax.lax.switch(which, branches)
        return outputs
    results = []
    for number, part in enumerate(parts):
        kinds: list[Kind] = [*step.inputs[1:], *[Rows(0)] * len(part)]
        given = _entering([*operands, *part], kinds, which == number)
        results.append(branch(number, given[: len(operands)], given[len(operands) :]))
    return _chosen(results, step.outputs, which)


def _zeros(like: Any) -> Any:
    """Return zeros, or keys of zeros, of a shape and type."""
    if not is_key(like):
        return jnp.zeros(like.shape, like.dtype)
    words = jax.eval_shape(jax.random.key_data, like)
    return keys_of(jnp.zeros(words.shape, words.dtype), like)


def _entering(values: Sequence[Any], kinds: Sequence[Kind], taken: Any) -> list[Any]:
    """Return what enters a branch that only the rows take where `taken` is true.

    If none of them does, no gradient flows to what they share: it would be zero.
    """
    source, exists = jnp.argmax(taken), taken.any()
    entering = []
    for value, kind in zip(values, kinds, strict=True):
        if value is None or is_key(value) or isinstance(kind, Numbers):
            entering.append(value)  # another row's number would lead to that row
        elif isinstance(kind, Rows) or kind is STEP:
            rows = kind if isinstance(kind, Rows) else Rows(0)
            lying = rows_first(value, rows)
            own = taken.reshape(-1, *[1] * (lying.ndim - 1))
            copy = cut(lying[source][None])
            entering.append(rows_back(jnp.where(own, lying, copy), rows))
        else:
            entering.append(jnp.where(exists, value, cut(value)))
    return entering


def _chosen(results: Sequence[list[Any]], kinds: Sequence[Kind], which: Any) -> list[Any]:
    """Return, for every row, the outputs of the branch that it takes."""
    chosen: list[Any] = []
    for outputs, kind in zip(zip(*results, strict=True), kinds, strict=True):
        if outputs[0] is None or not isinstance(kind, Rows):
            chosen.append(None)
            continue
        if isinstance(kind, Numbers):
            chosen.append(outputs[0])
            continue
        lying = [rows_first(output, kind) for output in outputs]
        value = lying[0]
        for number, other in enumerate(lying[1:], start=1):
            own = (which == number).reshape(-1, *[1] * (other.ndim - 1))
            value = jnp.where(own, other, value)
        chosen.append(rows_back(value, kind))
    return chosen
