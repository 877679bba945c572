"""Custom derivative rules: what they do to rows, too, must be what the loop does.

A rule written by hand may mix rows where its function does not (a gradient divided by its norm over
the batch), and may give another value than its function (with noise, in training). It is traced,
and followed as the function is. Of a rule for reverse mode, more is asked than that it keeps rows
apart. A shared array `s` gets one gradient from every step, and the loop adds them up. With `b_t`
for what the rule gives in step t,

    ds = b_1(dy_1) + ... + b_T(dy_T)

whereas a fold calls the rule once, for all rows. The two agree if what it gives is a sum over rows,
`b_t(dy_t) = sum_r g(x_r, dy_r)`, and not if it is a constant, which the loop adds up T times.
If the call has no rows at all (a rule on the weights alone), the fold calls it with the sum of all
cotangents, so that `b` needs to be linear. And rows that only fill a block have cotangents of zero:
they leave no trace if the rule gives zero for zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.fingerprint import program_key
from tdjax.core.jaxpr import all_equations, bind, inner_program, is_literal, is_written_by
from tdjax.core.opened import without_dead_code
from tdjax.core.recent import Recent
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import Follows
from tdjax.independence.rules.zeros import known_zeros, solves_that_add
from tdjax.independence.two_traces import Merged

NOT_ZERO = (
    "a derivative rule of its own that is not zero where the cotangent is zero: rows that only "
    "fill a block would add to the gradient"
)
"""In the reason why a proof fails, it says that a rule keeps rows apart, but for this."""

_JAX = os.path.dirname(jax.__file__) + os.sep
_ANYBODYS_RULES = ("api.py", "custom_derivatives.py", "solves.py")
"""Files of JAX with rules that call functions of others: of a custom root, the tangents' solver."""
_OWN_OPERATIONS = "jax._src.numpy."
"""Where JAX has the classes of high-level operations that call no functions of others."""
_SETTINGS = "jax._src.config"
"""Where JAX has the classes of its settings, under which it runs some rules."""
_RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd")
"""The parameters of custom calls that are functions by which they are differentiated."""
_TRANSPOSED_BY_RULE = (
    "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_linear_solve", "linear_call",
)  # fmt: skip
"""Operations that are given a function for what they are transposed to."""
_COMPILED: Any = type(jax.jit(lambda: None))
_DEEPEST = 3
"""Rules within rules are followed up to the third derivative."""


def check_rules(analysis: Follows, eqn: Any, kinds: list[Kind], outputs: list[Kind]) -> None:
    """Raise NotProvenError unless the derivative rule of a custom call keeps rows apart.

    What is called by a rule has rules of its own, often the same one again: a rule that calls its
    own function is followed until it cannot matter to a third derivative.
    """
    # Without rows it has to be linear, as even a rule of JAX's need not be: the turns of `odeint`
    # go with what it solves for.
    linear = "bwd" in eqn.large.params and all(kind is CONST for kind in kinds)
    trusted = not linear and is_jaxs_own(eqn.large)
    if eqn.small is None or trusted or analysis.depth >= _DEEPEST:
        return
    variables, active, smooth = differentiated(eqn)
    own = next((atom.aval for atom in eqn.invars if adds_by_itself(atom.aval)), None)
    if own is not None:
        raise NotProvenError(
            f"has a derivative rule of its own for {own.dtype}, a type whose gradients the steps "
            f"of the loop add up in their own way"
        )
    if not active or (not smooth and is_someones_operation(eqn.large)):
        return
    _refuse_what_is_told(eqn.large)
    same = _known_as(eqn, analysis.depth, (*kinds, *outputs))
    if same is not None and same in analysis.checked:
        return
    forward = "bwd" not in eqn.large.params
    derived = derivative_program(eqn, variables, active, smooth, forward)
    primals, moving = [kinds[i] for i in variables], [kinds[i] for i in active]
    moved = [outputs[k] for k in smooth]
    if forward:
        found = _kinds(analysis.inside(), derived, primals + moving)
        _demand_places(found, [*moved, *outputs])
    else:
        cotangents = [SUM if kind is CONST else kind for kind in moved]
        found = _kinds(analysis.inside(sums=True), derived, primals + cotangents)
        _demand_places(found[len(active) :], outputs)
        _demand_gradients(found[: len(active)], moving, derived.large)
        # Last, so that the reason says that a rule keeps rows apart but for this.
        _demand_zero_for_zero(derived.large, len(cotangents), len(active))
    if solves_that_add(derived.large):
        raise NotProvenError(f"has {NOT_ZERO}")
    analysis.checked.add(same)


def check_rules_by_row(program: Any) -> None:
    """Raise NotProvenError unless the rules in a loop over rows fit rows that only fill a block.

    They are called with one row at a time, so that they cannot mix them: nothing else is asked.
    """
    for eqn in filter(is_written_by_hand, all_equations(program)):
        variables, active, smooth = differentiated(eqn)
        if active and smooth:
            _refuse_what_is_told(eqn)
            derived = pullback(eqn, variables, active, smooth)
            _demand_zero_for_zero(derived, len(smooth), len(active))


def _refuse_what_is_told(eqn: Any) -> None:
    if asks_what_is_wanted(eqn):
        raise NotProvenError(
            "has a derivative rule of its own that is told, and may do something else, where a "
            "derivative is not wanted or known to be zero (`symbolic_zeros=True`, or a `HiPrim`)"
        )


def _demand_zero_for_zero(derived: Any, cotangents: int, gradients: int) -> None:
    """Demand of a map of primals and, last, cotangents that it is zero where the cotangents are.

    Args:
        derived: the map.
        cotangents: how many of its inputs are cotangents.
        gradients: how many of its outputs, the first, are to be zero.
    """
    primals = len(getattr(derived, "jaxpr", derived).invars) - cotangents
    zero = known_zeros(derived, [False] * primals + [True] * cotangents)
    if not all(zero[:gradients]):
        raise NotProvenError(f"has {NOT_ZERO}")


def _known_as(eqn: Any, depth: int, kinds: Sequence[Kind]) -> Any:
    """Return what two calls share only if the same rule does the same for both; None if unknown.

    A net calls `relu` in every layer. Neither the program that is called tells a rule (two rules
    may stand on one function), nor the object that holds it, which every call makes anew: the
    functions that somebody wrote do, with what JAX wraps around them.
    """
    one = getattr(eqn, "large", eqn)
    rules = tuple(_written(one.params[name]) for name in _RULES if name in one.params)
    program = program_key(inner_program(one))
    types = tuple((atom.aval.dtype, atom.aval.shape) for atom in (*eqn.invars, *eqn.outvars))
    key = depth, rules, program, types, tuple(kinds)
    try:
        hash(key)
    except TypeError:
        return None
    return key if rules and program is not None and None not in rules else None


def _written(value: Any, most: int = 15) -> Any:
    """Return the innermost wrapped function that an object reaches, with its wrappers.

    It is reached through functions of JAX's, which every transformation puts around it.
    """
    inside = getattr(value, "f", None)
    reached = [inside] if inside is not None else []
    if _file(value).startswith(_JAX):
        reached += [cell.cell_contents for cell in value.__closure__ or ()]
    found = (_written(each, most - 1) for each in reached if most and _holds(each))
    deeper = next((each for each in found if each is not None), None)
    if deeper is not None or inside is None or not hasattr(value, "transforms"):
        return deeper
    # What stores the structure of an output is new at every call, and says nothing of the rule.
    wrappers = tuple(
        (wrapper, *(each for each in given if "transformation_with_aux" not in _name(each)))
        for wrapper, given in value.transforms
    )
    return inside, wrappers


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", "")


def _holds(value: Any) -> bool:
    return hasattr(value, "transforms") or hasattr(value, "__closure__")


def differentiated(eqn: Any) -> tuple[list[int], list[int], list[int]]:
    """Return which inputs of a custom call are no literals, which of them move, and which outputs.

    Whole numbers do not, nor what the function closes over: JAX refuses to differentiate that.
    """
    variables = [i for i, atom in enumerate(eqn.invars) if not is_literal(atom)]
    closed_over = eqn.params.get("num_consts", 0)
    active = [i for i in variables if i >= closed_over and _inexact(eqn.invars[i])]
    return variables, active, [k for k, atom in enumerate(eqn.outvars) if _inexact(atom)]


def derivative_program(
    eqn: Any, variables: list[int], active: list[int], smooth: list[int], forward: bool
) -> Merged:
    """Return the derivative of a custom call as a program of primals and (co)tangents.

    After the derivatives it gives the values that the rule gives in place of the function's.

    Args:
        eqn: the call.
        variables: which of its inputs are variables.
        active: which of those are differentiated.
        smooth: which of its outputs are: whole numbers have no derivative.
        forward: whether it maps tangents forward, else cotangents backward.
    """
    derive = pushforward if forward else pullback
    traces = (derive(one, variables, active, smooth) for one in (eqn.small, eqn.large))
    return Merged(*traces, *eqn.sizes)


def pushforward(eqn: Any, variables: list[int], active: list[int], smooth: list[int]) -> Any:
    """Return a trace of the map of tangents; see `derivative_program`."""
    rule = _pushforward(_caller(eqn, variables), variables, active, smooth)
    return _traced(rule, _structs(eqn, variables, [eqn.invars[i] for i in active]))


def pullback(eqn: Any, variables: list[int], active: list[int], smooth: list[int]) -> Any:
    """Return a trace of the map of cotangents; see `derivative_program`."""
    rule = _pullback(_caller(eqn, variables), variables, active, smooth)
    return _traced(rule, _structs(eqn, variables, [eqn.outvars[k] for k in smooth]))


def _structs(eqn: Any, variables: list[int], moving: list[Any]) -> tuple[list[Any], list[Any]]:
    return [_struct(eqn.invars[i]) for i in variables], [_struct(atom) for atom in moving]


def is_jaxs_own(eqn: Any) -> bool:
    """Say whether a rule lies in JAX's own source: those are derivatives, and there are many."""
    rules = [_written(eqn.params[name]) for name in _RULES if name in eqn.params]
    own = bool(rules) and all(_is_jaxs_alone(eqn, rule) for rule in rules)
    return own or is_written_by(eqn, _OWN_OPERATIONS)


def _is_jaxs_alone(eqn: Any, rule: Any) -> bool:
    """Say whether a rule is a function of JAX's that calls no function of others.

    One that it closes over may do anything, and so may one that it is given (`jax.jvp` of a
    function is a rule, too), unless JAX wrote what it is the rule of: that calls it as well.
    """
    function, wrappers = rule or (None, ())
    if not _lies_in_jax(function):
        return False
    static = (each for _, *given in wrappers for each in given if isinstance(each, tuple))
    given = any(callable(getattr(value, "val", value)) for values in static for value in values)
    return not given or f" at {_JAX}" in _source(inner_program(eqn))


def _lies_in_jax(function: Any) -> bool:
    if type(function) is _COMPILED:
        function = function.__wrapped__
    if not isinstance(function, FunctionType):
        return False
    file = _file(function)
    if not file.startswith(_JAX) or file.endswith(_ANYBODYS_RULES):
        return False
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    return all(type(each).__module__ == _SETTINGS or _lies_in_jax(each) for each in held)


def _file(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return "" if code is None else code.co_filename


def _source(program: Any) -> str:
    debug_info = getattr(program, "jaxpr", program).debug_info
    return getattr(debug_info, "func_src_info", None) or ""


def is_written_by_hand(eqn: Any) -> bool:
    """Say whether an equation has a rule for reverse mode that is not one of JAX's own."""
    return (has_reverse_rule(eqn) and not is_jaxs_own(eqn)) or is_someones_operation(eqn)


def has_reverse_rule(eqn: Any) -> bool:
    """Say whether an equation is differentiated in reverse mode by a function given for that.

    So it is if its tangents are computed by one that is.
    """
    if "jvp_jaxpr_fun" in eqn.params:
        return any(each.name in _TRANSPOSED_BY_RULE for each in primitives_of_tangents(eqn))
    return eqn.primitive.name in _TRANSPOSED_BY_RULE


_of_tangents: Recent[frozenset[Any]] = Recent()


def primitives_of_tangents(eqn: Any) -> frozenset[Any]:
    """Return the operations of a rule for forward mode; none where `tangents_by_rule` has none."""

    def found() -> frozenset[Any]:
        tangents = tangents_by_rule(eqn)
        equations = () if tangents is None else all_equations(tangents)
        return frozenset(each.primitive for each in equations)

    if "jvp_jaxpr_fun" not in eqn.params:
        return frozenset()
    return _of_tangents.made(_known_as(eqn, 0, ()), found)


def tangents_by_rule(eqn: Any) -> Any:
    """Return a trace of a rule for forward mode, on inputs and tangents of those that move.

    None if there is none, or it is JAX's own, or fails: so it does where it is used.
    """
    if "jvp_jaxpr_fun" not in eqn.params or is_jaxs_own(eqn):
        return None
    try:
        return pushforward(eqn, *differentiated(eqn))
    except NotProvenError:
        return None


def asks_what_is_wanted(eqn: Any) -> bool:
    """Say whether a rule is told what is differentiated: one trace does not show all it can do."""
    return bool(eqn.params.get("symbolic_zeros")) or is_someones_operation(eqn)


def is_someones_operation(eqn: Any) -> bool:
    """Say whether a high-level operation is of a class that is not JAX's."""
    return eqn.primitive.name == "call_hi_primitive" and not is_written_by(eqn, "jax.")


def adds_by_itself(leaf: Any) -> bool:
    """Say whether an array is of a type with an addition of its own: a maximum, in Flax's fm32."""
    extended = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return bool(extended and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _inexact(atom: Any) -> bool:
    return bool(jnp.issubdtype(atom.aval.dtype, jnp.inexact))


def _struct(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def _caller(eqn: Any, variables: list[int]) -> Callable[[Sequence[Any]], list[Any]]:
    def call(values: Sequence[Any]) -> list[Any]:
        inputs = [atom.val if is_literal(atom) else None for atom in eqn.invars]
        for index, value in zip(variables, values, strict=True):
            inputs[index] = value
        return bind(eqn, inputs)

    return call


def _with_active(
    call: Callable[[Sequence[Any]], list[Any]], variables: list[int], active: list[int], values: Any
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Return the call as a function of its differentiable inputs, and those inputs."""
    where = [variables.index(i) for i in active]

    def of_active(*parts: Any) -> list[Any]:
        merged = list(values)
        for index, part in zip(where, parts, strict=True):
            merged[index] = part
        return call(merged)

    return of_active, [values[i] for i in where]


def _pushforward(
    call: Any, variables: list[int], active: list[int], smooth: list[int]
) -> Callable[..., Any]:
    def push(values: Any, tangents: Any) -> Any:
        of_active, primals = _with_active(call, variables, active, values)
        outputs, moved = jax.jvp(of_active, primals, list(tangents))
        return [*(moved[k] for k in smooth), *outputs]

    return push


def _pullback(
    call: Any, variables: list[int], active: list[int], smooth: list[int]
) -> Callable[..., Any]:
    def pull(values: Any, cotangents: Any) -> Any:
        of_active, primals = _with_active(call, variables, active, values)
        outputs, back = jax.vjp(of_active, *primals)
        given = dict(zip(smooth, cotangents, strict=True))
        gradients = back([given.get(k, _no_cotangent(y)) for k, y in enumerate(outputs)])
        return [*gradients, *outputs]

    return pull


def _no_cotangent(output: Any) -> Any:
    """Return what stands for the cotangent of whole numbers."""
    return np.zeros(output.shape, jax.dtypes.float0)


def _traced(function: Callable[..., Any], avals: Any) -> Any:
    try:
        return without_dead_code(jax.make_jaxpr(function)(*avals))
    except Exception as error:  # whatever the rule raises, it has not been proven
        text = str(error).strip().splitlines()
        raise NotProvenError(
            "has a derivative rule of its own that cannot be traced: "
            f"{type(error).__name__}: {text[0] if text else ''}"
        ) from None


def _demand_places(kinds: list[Kind], wanted: list[Kind]) -> None:
    """Demand tangents, and values, whose rows lie where those of the outputs do."""
    for kind, want in zip(kinds, wanted, strict=True):
        if kind != want and (isinstance(want, Rows) or kind is not CONST):
            raise NotProvenError("has a derivative rule of its own that moves the rows")


def _demand_gradients(kinds: list[Kind], wanted: list[Kind], derived: Any) -> None:
    """Demand gradients whose rows lie where those of the inputs do, and sums for shared inputs."""
    zeros = known_zeros(derived, [False] * len(derived.invars))
    for kind, want, zero in zip(kinds, wanted, zeros, strict=False):
        if kind == want and (want is not CONST or zero):
            continue
        if want is CONST and kind is CONST:
            raise NotProvenError(
                "has a derivative rule of its own that gives a shared array the same gradient "
                "whatever the rows are: the loop adds it up once a step, a fold once"
            )
        fits = {CONST: (SUM, STEP), STEP: (CONST,)}
        if isinstance(want, Rows) or kind not in fits[want]:
            raise NotProvenError("has a derivative rule of its own that moves the rows")


def _kinds(analysis: Follows, derived: Merged, given: list[Kind]) -> list[Kind]:
    try:
        return analysis.run(derived, given)[0]
    except NotProvenError as error:
        raise NotProvenError(f"has a derivative rule of its own, in which {error}") from None
