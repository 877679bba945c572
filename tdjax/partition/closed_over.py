"""Arrays that a step closes over, on meshes, where a block may not, or should not, reach them.

JAX hands arrays that are closed over into `jax.shard_map` only where the mesh is automatic. On an
explicit one their types say how they lie, and a block has no such axes. So the step is traced where
no mesh is in scope, which finds them; they become arguments that all steps share, and the trace is
evaluated anew on what a block sees, without anything in it that says how arrays lie.

So are narrow arrays on any mesh: the gradients of what is closed over JAX adds up over devices in
the dtype that the array has, those of arguments in float32 (`core/shared.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from tdjax.core.arrays import reshaped
from tdjax.core.call import Call, Role
from tdjax.core.errors import StrategyError
from tdjax.core.jaxpr import bind, evaluate, inner_program, scan_counts
from tdjax.core.shared import is_summed_wide
from tdjax.independence.rules.rule import Form, traits_of

_NOWHERE = AbstractMesh((), ())


def hoisted(call: Call) -> Call:
    """Return the call with the arrays that its step closes over as shared arguments.

    It is returned as it is where there are none that know of an explicit mesh, or are narrow.
    """
    step = _Traced(call.step)
    try:
        consts = step.at(_step_shapes(call)).consts
        found = [const for const in consts if _is_explicit(const) or is_summed_wide(const)]
    except Exception:  # where a mesh is in scope it may well be traced; if not, that says why
        return call
    if not found:
        return call
    count = len(call.leaves)
    shared: list[Role] = ["shared"] * len(found)

    def run(leaves: list[Any]) -> Any:
        return step(leaves[:count], found, leaves[count:])

    return call.replace(
        step=run,
        names=(*call.names, *(f"closed-over array {index}" for index in range(len(found)))),
        leaves=(*call.leaves, *found),
        axes=(*call.axes, *[None] * len(found)),
        roles=(*call.roles, *shared),
    )


def _step_shapes(call: Call) -> list[jax.ShapeDtypeStruct]:
    return [reshaped(call.step_shape(index), leaf) for index, leaf in enumerate(call.leaves)]


def _is_explicit(const: Any) -> bool:
    return AxisType.Explicit in jax.typeof(const).sharding.mesh.axis_types


class _Traced:
    """A step, traced once for each set of shapes."""

    def __init__(self, step: Callable[[list[Any]], Any]) -> None:
        self._step = step
        self._known: dict[Any, Any] = {}
        self._trees: dict[Any, Any] = {}

    def at(self, shapes: list[jax.ShapeDtypeStruct]) -> Any:
        """Return the trace for these shapes."""
        key = tuple((shape.shape, shape.dtype, shape.weak_type) for shape in shapes)
        if key not in self._known:
            with jax.sharding.use_abstract_mesh(_NOWHERE):
                made = jax.make_jaxpr(self._step, return_shape=True)
                self._known[key], output = made(shapes)
            self._trees[key] = jax.tree.structure(output)
        self.tree = self._trees[key]
        return self._known[key]

    def __call__(self, leaves: list[Any], found: Sequence[Any], given: Sequence[Any]) -> Any:
        """Evaluate the trace, with `given` in the place of the arrays `found`."""
        closed = self.at([reshaped(leaf.shape, leaf) for leaf in leaves])
        instead = {id(const): value for const, value in zip(found, given, strict=True)}
        consts = [instead.get(id(const), const) for const in closed.consts]
        return jax.tree.unflatten(self.tree, _bare(closed.jaxpr, consts, leaves))


def _bare(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """Return what a program gives, whatever it says about how its arrays lie."""
    return evaluate(jaxpr, consts, inputs, _equation)


def _closed(program: Any) -> Callable[..., list[Any]]:
    """Return a program inside another as a function."""
    jaxpr, consts = getattr(program, "jaxpr", program), getattr(program, "consts", ())
    return lambda *inputs: _bare(jaxpr, consts, inputs)


def _equation(eqn: Any, inputs: Sequence[Any]) -> list[Any]:
    name, form = eqn.primitive.name, traits_of(eqn.primitive).form
    if form is Form.LAYOUT:
        return list(inputs)
    rule: Callable[[Any, list[Any]], Any] | None = _RULES.get(form)
    if rule is not None:
        return list(rule(eqn, list(inputs)))
    if any(hasattr(value, "eqns") for value in jax.tree.leaves(list(eqn.params.values()))):
        raise StrategyError(
            f"the step closes over arrays of an explicit mesh and uses `{name}`, which tdjax "
            f"cannot bring to a block: give the arrays as arguments, with None at their place in "
            f"in_axes."
        )
    laid = {key: None for key in ("sharding", "out_sharding") if key in eqn.params}
    return bind(eqn.replace(params={**eqn.params, **laid}), inputs)


def _call(eqn: Any, inputs: list[Any]) -> list[Any]:
    return _closed(inner_program(eqn))(*inputs)


def _checkpoint(eqn: Any, inputs: list[Any]) -> list[Any]:
    params = eqn.params
    body = _closed(inner_program(eqn))
    remat = jax.checkpoint(body, policy=params["policy"], prevent_cse=params["prevent_cse"])
    return remat(*inputs)


def _scan(eqn: Any, inputs: list[Any]) -> list[Any]:
    params = eqn.params
    consts, carry = scan_counts(eqn)
    body = _closed(params["jaxpr"])

    def one(state: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = body(*inputs[:consts], *state, *xs)
        return outputs[:carry], outputs[carry:]

    state, outputs = jax.lax.scan(
        one,
        inputs[consts : consts + carry],
        inputs[consts + carry :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*state, *outputs]


def _while(eqn: Any, inputs: list[Any]) -> list[Any]:
    params = eqn.params
    first, second = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = inputs[:first], inputs[first : first + second]
    cond, body = _closed(params["cond_jaxpr"]), _closed(params["body_jaxpr"])
    return jax.lax.while_loop(
        lambda state: cond(*of_cond, *state)[0],
        lambda state: body(*of_body, *state),
        inputs[first + second :],
    )


def _cond(eqn: Any, inputs: list[Any]) -> list[Any]:
    which, *operands = inputs
    return jax.lax.switch(which, [_closed(branch) for branch in eqn.params["branches"]], *operands)


def _custom(eqn: Any, inputs: list[Any]) -> list[Any]:
    """Keep a derivative rule: JAX itself applies it, where no mesh is in scope."""
    kinds = [atom.aval.dtype for atom in eqn.invars]
    moved = [index for index, kind in enumerate(kinds) if jnp.issubdtype(kind, jnp.inexact)]

    def original(chosen: list[Any], all_inputs: list[Any]) -> list[Any]:
        return bind(eqn, _merged(moved, chosen, all_inputs))

    def again(function: Callable[..., Any], *args: Any) -> Any:
        shapes = jax.tree.map(lambda x: reshaped(x.shape, x), args)
        with jax.sharding.use_abstract_mesh(_NOWHERE):
            closed, output = jax.make_jaxpr(function, return_shape=True)(*shapes)
        flat = _bare(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(output), flat)

    if eqn.primitive.name == "custom_jvp_call":
        return _with_jvp(eqn, inputs, moved, original, again)
    return _with_vjp(eqn, inputs, moved, original, again)


def _merged(moved: list[int], chosen: list[Any], rest: list[Any]) -> list[Any]:
    merged = list(rest)
    for index, value in zip(moved, chosen, strict=True):
        merged[index] = value
    return merged


def _with_jvp(eqn: Any, inputs: Any, moved: Any, original: Any, again: Any) -> list[Any]:
    @jax.custom_jvp
    def function(chosen: list[Any], rest: list[Any]) -> list[Any]:
        return _call(eqn, _merged(moved, chosen, rest))

    def rule(primals: Any, tangents: Any) -> Any:
        chosen, rest = primals

        def push(chosen: Any, rest: Any, change: Any) -> Any:
            return jax.jvp(lambda values: original(values, rest), (chosen,), (change,))

        return again(push, chosen, rest, tangents[0])

    function.defjvp(rule)
    return function([inputs[index] for index in moved], inputs)


def _with_vjp(eqn: Any, inputs: Any, moved: Any, original: Any, again: Any) -> list[Any]:
    @jax.custom_vjp
    def function(chosen: list[Any], rest: list[Any]) -> list[Any]:
        return _call(eqn, _merged(moved, chosen, rest))

    def forward(chosen: Any, rest: Any) -> Any:
        return function(chosen, rest), (chosen, rest)

    def backward(kept: Any, cotangents: Any) -> Any:
        def pull(chosen: Any, rest: Any, cotangents: Any) -> Any:
            return jax.vjp(lambda values: original(values, rest), chosen)[1](cotangents)[0]

        return again(pull, *kept, cotangents), None

    function.defvjp(forward, backward)
    rest = [
        jax.lax.stop_gradient(value) if index in moved else value
        for index, value in enumerate(inputs)
    ]
    return function([inputs[index] for index in moved], rest)


def _loop(eqn: Any, inputs: list[Any]) -> list[Any]:
    return _while(eqn, inputs) if "body_jaxpr" in eqn.params else _scan(eqn, inputs)


_RULES: dict[Form, Callable[[Any, list[Any]], Any]] = {
    Form.CALL: _call,
    Form.REMAT: _checkpoint,
    Form.CUSTOM: _custom,
    Form.LOOP: _loop,
    Form.BRANCH: _cond,
}
