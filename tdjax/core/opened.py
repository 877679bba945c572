"""Traces as tdjax keeps them: without constants, and without what nothing reads.

What is dropped is what JAX drops when it differentiates or compiles a program: it may mix rows
freely. A called program, a loop or a branch gives only what is read of it, and takes only what that
needs: `jax.jit(f)(x)[0]` does without the rest of `f`, and a loop without a carry that only leads
to itself. Calls of functions with derivative rules of their own stay as they are: what a rule is
told of an output that nothing reads is its own affair.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any

import jax

from tdjax.core.jaxpr import (
    VARY,
    all_equations,
    evaluate,
    is_closed,
    is_literal,
    scan_counts,
    with_programs,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A program that does not hold its constants; they are given whenever it runs."""

    constvars: tuple[Any, ...]
    invars: tuple[Any, ...]
    outvars: tuple[Any, ...]
    eqns: tuple[Any, ...]
    bare: Any

    @property
    def varies(self) -> bool:
        """Whether it tells arrays, inside `jax.shard_map`, that they vary over devices."""
        return any(eqn.primitive.name == VARY for eqn in all_equations(self.bare))

    def __call__(self, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Evaluate the equations."""
        if self.varies:
            return evaluate(self.bare, consts, inputs)
        return jax.core.eval_jaxpr(self.bare, consts, *inputs)


def open_program(jaxpr: Any) -> Opened:
    """Return a trace without its constants, and without dead code, which may mix rows freely."""
    variables = tuple(jaxpr.constvars), tuple(jaxpr.invars), tuple(jaxpr.outvars)
    if getattr(jaxpr, "consts", None):  # since jax 0.12 those with a value are its constants
        jaxpr = jaxpr.replace(consts=[])
    jaxpr = without_dead_code(jaxpr)
    return Opened(*variables, tuple(jaxpr.eqns), jaxpr)


Mask = tuple[bool, ...]


def without_dead_code(program: Any, read: Mask | None = None) -> Any:
    """Return a program, or a closed one, without what nothing needs, also in programs inside it.

    It is the same object if there is no such code.

    Args:
        program: it keeps its inputs.
        read: which of its outputs it is to keep; None: all.
    """
    if is_closed(program):
        jaxpr = without_dead_code(program.jaxpr, read)
        return program if jaxpr is program.jaxpr else program.replace(jaxpr=jaxpr)
    outputs = list(program.outvars if read is None else compress(program.outvars, read))
    needed = set(_variables(outputs))
    live = []
    for eqn in reversed(program.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            kept = _without_unread(eqn, needed)
            needed.update(_variables(kept.invars))
            live.append(kept)
    same = len(live) == len(program.eqns) and all(map(operator.is_, reversed(live), program.eqns))
    if same and len(outputs) == len(program.outvars):
        return program
    return program.replace(eqns=live[::-1], outvars=outputs)


# What JAX has compiled of a program inside another, it keeps under the object.
_lived_in = functools.lru_cache(maxsize=1024)(without_dead_code)


@functools.lru_cache(maxsize=1024)
def _with_inputs(program: Any, kept: Mask) -> Any:
    """Return a program without the inputs that are not to be kept."""
    if all(kept):
        return program
    if is_closed(program):
        return program.replace(jaxpr=_with_inputs(program.jaxpr, kept))
    return program.replace(invars=list(compress(program.invars, kept)))


@functools.lru_cache(maxsize=1024)
def _reads(program: Any) -> Mask:
    """Return which of its inputs a program reads."""
    jaxpr = getattr(program, "jaxpr", program)
    read = {*_variables(jaxpr.outvars)}
    for eqn in jaxpr.eqns:
        read.update(_variables(eqn.invars))
    return tuple(atom in read for atom in jaxpr.invars)


def _variables(atoms: Iterable[Any]) -> Iterable[Any]:
    return (atom for atom in atoms if not is_literal(atom))


def _without_unread(eqn: Any, needed: set[Any]) -> Any:
    """Return an equation without what is not needed of it, itself if it is all there is."""
    eqn = with_programs(eqn, _lived_in)
    trim = _RULES.get(eqn.primitive.name)
    if trim is None or eqn.effects:
        return eqn
    trimmed = trim(eqn, tuple(atom in needed for atom in eqn.outvars))
    if trimmed is None:
        return eqn
    params, given, made = trimmed
    if all(given) and all(made):
        return eqn
    return eqn.replace(
        invars=list(compress(eqn.invars, given)),
        outvars=list(compress(eqn.outvars, made)),
        params={**eqn.params, **params},
    )


Trimmed = tuple[dict[str, Any], Mask, Mask]
"""Other parameters of an equation, and which of its inputs and outputs it keeps."""


def _call(eqn: Any, read: Mask) -> Trimmed | None:
    name = "jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"
    others = eqn.params.keys() - {*_OF_INPUTS, *_OF_OUTPUTS}
    tuples = [eqn.params[each] for each in others if isinstance(eqn.params[each], tuple)]
    if any(tuples) and {*map(len, tuples)} & {len(eqn.invars), len(eqn.outvars)}:
        return None  # one may have an entry for each of them, of which nothing is known here
    program = _lived_in(eqn.params[name], read)
    given = _reads(program)
    params = {name: _with_inputs(program, given)}
    for names, kept in ((_OF_INPUTS, given), (_OF_OUTPUTS, read)):
        for each in names:
            if isinstance(value := eqn.params.get(each), tuple):
                params[each] = tuple(compress(value, kept))
    return params, given, read


_OF_INPUTS = ("donated_invars", "in_layouts", "in_shardings", "prevent_cse")
_OF_OUTPUTS = ("out_layouts", "out_shardings")
"""Parameters of calls that have an entry for each input, or output."""


def _scan(eqn: Any, read: Mask) -> Trimmed:
    consts, count = scan_counts(eqn)
    body, carried = _carrying(eqn.params["jaxpr"], read[:count], read[count:], consts)
    reads = _reads(body)
    given = (*reads[:consts], *carried, *reads[consts + count :])
    made = (*carried, *read[count:])
    params = {"jaxpr": _with_inputs(body, given)}
    if "num_consts" in eqn.params:
        params |= {"num_consts": sum(given[:consts]), "num_carry": sum(carried)}
    else:  # since jax 0.12
        params |= {
            name: eqn.params[name].filter_with_mask(kept)
            for name, kept in (("ft_in", given), ("ft_out", made))
        }
    return params, given, made


def _while(eqn: Any, read: Mask) -> Trimmed:
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test = eqn.params["cond_jaxpr"]
    asked = _reads(test)
    either = tuple(map(operator.or_, read, asked[first:]))
    body, carried = _carrying(eqn.params["body_jaxpr"], either, (), second)
    consts = asked[:first], _reads(body)[:second]
    params = {
        "cond_jaxpr": _with_inputs(test, (*consts[0], *carried)),
        "body_jaxpr": _with_inputs(body, (*consts[1], *carried)),
        "cond_nconsts": sum(consts[0]),
        "body_nconsts": sum(consts[1]),
    }
    return params, (*consts[0], *consts[1], *carried), carried


def _carrying(body: Any, carried: Mask, rest: Mask, consts: int) -> tuple[Any, Mask]:
    """Return the body of a loop that carries what is read after it or needed for that."""
    while True:
        program = _lived_in(body, (*carried, *rest))
        needed = _reads(program)[consts : consts + len(carried)]
        after = tuple(map(operator.or_, carried, needed))
        if after == carried:
            return program, carried
        carried = after


def _cond(eqn: Any, read: Mask) -> Trimmed:
    branches = [_lived_in(branch, read) for branch in eqn.params["branches"]]
    given = tuple(map(any, zip(*map(_reads, branches), strict=True)))
    params = {"branches": tuple(_with_inputs(branch, given) for branch in branches)}
    return params, (True, *given), read


_RULES: dict[str, Callable[[Any, Mask], Trimmed | None]] = {
    **dict.fromkeys(("closed_call", "jit", "pjit", "checkpoint", "remat", "remat2"), _call),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
