"""Lines with derivative rules written by hand: on functions of a program's own, and on JAX's."""

from __future__ import annotations

from collections.abc import Sequence

from ..scope import Scope, Type, Unfit, Value
from .registry import builds, changed, grow

_JAXS_OWN = [
    "jnp.tanh", "jnp.sin", "jax.nn.relu", "jax.nn.softplus", "jax.nn.silu", "jnp.square",
    "jax.nn.sigmoid", "jax.nn.gelu", "jnp.cosh",
]  # fmt: skip

# What a rule may do to a gradient that has rows ({d}; {p} is the input that it is of, {r} the axis).  # noqa: E501
_OF_ROWS = [
    "{d} * 2.0",
    "jnp.clip({d}, -0.1, 0.1)",
    "jnp.tanh({d})",
    "{d} / (1.0 + jnp.abs({d}))",
    "jnp.where({d} > 0, {d}, 0.1 * {d})",
    "jnp.round({d} * 3.0) / 3.0",
    "{d} * 0.0",
    "{d} * jnp.abs({p})",
    "jnp.zeros_like({d})",
    "{d} * jnp.minimum(1.0, 0.1 / jnp.abs({d}))",
]
# The same, so that a fold would not give the gradient of the loop, by what is wrong.
_OF_ROWS_WRONG = {
    "rows mix": [
        "{d} - {d}.mean({r}, keepdims=True)",
        "{d} / jnp.sqrt(({d} ** 2).sum() + 0.1)",
        "jnp.flip({d}, {r})",
        "{d} * {p}.sum()",
    ],
    "their number": ["{d} * {d}.shape[{r}]", "{d} ** {d}.shape[{r}]"],
    "zero gives more": [
        "jnp.maximum({d}, 0.5)",
        "{d} + 1.0",
        "jnp.ones_like({d})",
        "jnp.cosh({d})",
        "jnp.nan_to_num({d} / jnp.abs({d}), nan=3.0)",
        "jnp.prod({d}[..., :0], -1, keepdims=True) + {d}",
        "jax.lax.custom_linear_solve(lambda z: z, {d}, lambda _, b: b + 1.0, lambda _, b: b)",
    ],
}
# What a rule may do to the gradient of a shared array, which is a sum over rows.
_OF_SUMS = [
    "{d} * 2.0",
    "-{d} / 3.0",
    "{d} * {p}",
    "jnp.zeros_like({d})",
    "{d} * 0.0",
    "jax.lax.scan(lambda c, _: (c * 0.5, None), {d}, None, length=2)[0]",
    "jax.jit(lambda z: z * 0.5)({d})",
    "jax.lax.stop_gradient({d}) + {d}",
    "{d}.T.T - 0.5 * {d}",
]
# The same, so that a fold would not give the gradient of the loop, by what is wrong.
_OF_SUMS_WRONG = {
    "no sum": ["jnp.ones_like({d})", "{p} * 0.3", "jnp.sin({p})"],
    "zero gives more": ["{d} + 1.0", "jnp.maximum({d}, 0.5)", "jnp.cosh({d}) * {p}"],
    "whole numbers": [
        "{d}.astype(int).astype(float)",
        "jnp.round({d} * 2.0).astype(int) * 0.5",
        "({d} * 3.0).astype(jnp.int32).astype(float) / 3.0",
        "({d} > 0).astype(float) * {p}",
    ],
    "conditions": [
        "jax.lax.cond({d}.sum() > 0, lambda z: z * 2.0, lambda z: z, {d})",
        "jax.lax.cond({d}.sum().astype(int) > 0, lambda z: z * 2.0, lambda z: z, {d})",
        "jax.lax.cond({d}.sum().astype(bool), lambda z: z * 2.0, lambda z: z, {d})",
        "jax.lax.switch({d}.sum().astype(int), [lambda z: z, lambda z: -z], {d})",
        "jax.lax.while_loop(lambda z: (jnp.abs(z) > 1.0).any(), lambda z: z * 0.5, {d})",
        "jax.lax.fori_loop(0, {d}.sum().astype(int), lambda _, z: z * 0.5, {d})",
        "jax.lax.while_loop(lambda c: c[0] < c[1].sum(), lambda c: (c[0] + 1, c[1] * 0.5), (0, {d}))[1]",  # noqa: E501
    ],
    "not linear": [
        "jnp.maximum({d}, 0.0)",
        "jnp.tanh({d})",
        "{d} ** 2",
        "jnp.round({d})",
        "jnp.where({d} > 0, {d}, 0.1 * {d})",
        "jax.lax.scan(lambda c, _: (jnp.tanh(c), None), {d}, None, length=2)[0]",
        "jax.lax.reduce_precision({d}, 8, 3)",
        "{d} / jnp.sqrt(({d} ** 2).sum() + 0.1)",
        "jnp.sort({d}.ravel()).reshape({d}.shape)",
        "{d} * {d}.shape[0]",
        "jax.lax.custom_linear_solve(lambda z: z, {d}, lambda _, b: jnp.tanh(b), lambda _, b: b)",
    ],
}
# What a rule may give in place of its function's value ({d}), and what it may not.
_OF_VALUES = ["{d} * 1.5", "{d} + 0.1 * jnp.sin({d})", "jnp.tanh({d})"]
_OF_VALUES_WRONG = [
    "{d} - {d}.mean({r}, keepdims=True)",
    "jnp.flip({d}, {r})",
    "{d} + jax.random.normal(jax.random.key(3), {d}.shape)",
    "{d} * {d}.shape[{r}]",
]
# What a rule may do to a tangent, and what it may not.
_OF_TANGENTS = ["{d} * 2.0", "{d} * jnp.abs({p})", "{d} * jax.nn.sigmoid({p})", "{d} * 0.0"]
_OF_TANGENTS_WRONG = [
    "{d} - {d}.mean({r}, keepdims=True)",
    "{d} * {p}.sum()",
    "{d} * {d}.shape[{r}]",
    "jnp.flip({d}, {r})",
]


def _changed_gradient(scope: Scope, d: Value, primal: Value, wrong: float) -> str:
    """Return code for what a rule gives in the place of the true gradient."""
    right, mixing = (_OF_SUMS, _OF_SUMS_WRONG) if d.rows is None else (_OF_ROWS, _OF_ROWS_WRONG)
    if scope.chance(wrong):
        form = scope.rng.choice(mixing[scope.rng.choice(list(mixing))])
    elif scope.chance(0.4):
        form = scope.rng.choice(right)
    elif scope.chance(0.15):
        return str(changed(scope, d))
    else:
        return str(d)
    return form.format(d=d, p=primal, r=d.rows)


def _changed_value(scope: Scope, code: str, output: Type) -> str:
    """Return code for what a rule gives in the place of its function's value."""
    if scope.chance(0.5):
        return code
    wrong = output.rows is not None and scope.chance(scope.setting.wrong)
    form = scope.rng.choice(_OF_VALUES_WRONG if wrong else _OF_VALUES)
    return f"(lambda v: {form.format(d='v', r=output.rows)})({code})"


def _inputs(scope: Scope) -> list[Value]:
    """Return what a function with a rule is called on: rows, what is shared, or both."""
    form = scope.rng.choice(["rows", "rows", *["both"] * 3, "shared", "shared", "two", "step"])
    if form == "shared":
        return [scope.pick(low=1, high=2, rows=False)]
    a = scope.pick(low=1, high=3, rows=True)
    if form == "both":
        shape = (a.shape[-1],) if a.rows != a.rank - 1 else ()
        return [a, scope.shared(shape)]
    if form == "step" and not scope.closed:
        return [a, scope.step_value(())]
    return [a, scope.another(a)] if form == "two" else [a]


def _primal(scope: Scope, types: Sequence[Type], whole: bool) -> str:
    """Write the function itself; with `whole`, it also returns whole numbers."""

    def body(inner: Scope, params: list[Value]) -> str:
        first = params[0]
        if len(params) == 2 and inner.chance(0.8):
            joined = inner.rng.choice(["{a} * {b}", "{a} + {b}", "jnp.tanh({a}) * {b}"])
            first = inner.line(joined.format(a=first, b=params[1]))
        made = grow(inner, 1) if inner.chance(0.4) else []
        last = made[-1] if made and made[-1].type.kind == "float" else first
        out = inner.line(
            inner.rng.choice(["jnp.sin({o})", "{o} * 2.0", "jnp.tanh({o})"]).format(o=last)
        )
        if not whole:
            return str(out)
        number = inner.rng.choice(["jnp.floor({o}).astype(int)", "{o} > 0", "jnp.argmax({o}, -1)"])
        if not out.rank:
            raise Unfit
        return f"({out}, {number.format(o=out)})"

    return scope.function(types, body, closed=True)


def _output_type(scope: Scope, name: str, inputs: Sequence[Value], whole: bool) -> Type:
    """Return the type of the float that a function returns."""
    line = scope.line(f"{name}({', '.join(map(str, inputs))}){'[0]' if whole else ''}")
    scope.nodes.pop()
    scope.values.pop()
    return line.type


@builds("custom_vjp_call", weight=12)
def _reverse(scope: Scope) -> str:
    inputs = _inputs(scope)
    types = [each.type for each in inputs]
    own = len(inputs) == 1 and scope.chance(0.4)
    whole = not own and scope.chance(0.3)
    if own:
        name, output = scope.rng.choice(_JAXS_OWN), types[0]
    else:
        name = scope.define("h", _primal(scope, types, whole))
        output = _output_type(scope, name, inputs, whole)
    rule = _with_reverse_rule(scope, name, types, output, whole)
    spelled = ", ".join(map(str, inputs))
    scope.callables.append((rule, tuple(types))) if not whole else None
    result = f"{rule}({spelled}){'[0]' if whole else ''}"
    if scope.chance(0.3) and not whole:
        # Another rule on the same function: the two must not be taken for one.
        second = _with_reverse_rule(scope, name, types, output, whole)
        return scope.rng.choice(
            [f"{result} + {second}({spelled})", f"{result} * {second}({spelled})"]
        )
    if whole and scope.chance(0.5):
        result = f"{result} + {rule}({spelled})[1].astype(float).sum() * 0"
    if scope.chance(0.2):
        wrap = scope.rng.choice(["jax.jit({r})", "jax.checkpoint({r})"])
        result = result.replace(f"{rule}(", f"{wrap.format(r=rule)}(", 1)
    return result


def _with_reverse_rule(
    scope: Scope, name: str, types: Sequence[Type], output: Type, whole: bool
) -> str:
    """Write a rule for reverse mode, and return the function that has it."""

    def body(inner: Scope, params: list[Value]) -> str:
        *primals, cotangent = params
        spelled = ", ".join(map(str, primals))
        function = f"(lambda *q: {name}(*q)[0])" if whole else name
        returned = []
        # One of them is wrong, that of a shared array more often.
        odds = [1 if primal.rows is not None else 2 for primal in primals]
        (wrong,) = inner.rng.choices(range(len(primals)), odds)
        for i, primal in enumerate(primals):
            true = inner.line(f"jax.vjp({function}, {spelled})[1]({cotangent})[{i}]")
            amiss = inner.setting.wrong if i == wrong else 0.0
            returned.append(_changed_gradient(inner, true, primal, amiss))
        return f"({', '.join(returned)},)"

    backward = scope.function([*types, output], body, closed=True)
    how = scope.rng.choice(
        ["{f}", "{f}", "jax.jit({f})", "jax.checkpoint({f})", "functools.partial({f})"]
    )
    backward = how.format(f=backward)
    given = "ct[0]" if whole else "ct"
    if len(types) == 1 and not whole and scope.chance(0.15):
        return scope.define(
            "g", f"jax.custom_gradient(lambda p: ({name}(p), lambda ct: {backward}(p, ct)[0]))"
        )
    value = f"{name}(*p)" if whole else _changed_value(scope, f"{name}(*p)", output)
    return scope.define(
        "g",
        f"with_vjp({name}, lambda *p: ({value}, p), lambda kept, ct: {backward}(*kept, {given}))",
    )


@builds("custom_jvp_call", weight=6)
def _forward(scope: Scope) -> str:
    inputs = _inputs(scope)
    types = [each.type for each in inputs]
    own = len(inputs) == 1 and scope.chance(0.4)
    name = scope.rng.choice(_JAXS_OWN) if own else scope.define("h", _primal(scope, types, False))

    def rule() -> str:
        def body(inner: Scope, params: list[Value]) -> str:
            half = len(params) // 2
            primals, tangents = params[:half], params[half:]
            spelled = [", ".join(map(str, each)) for each in (primals, tangents)]
            true = inner.line(f"jax.jvp({name}, ({spelled[0]},), ({spelled[1]},))[1]")
            if not inner.chance(0.5):
                return str(true)
            wrong = inner.chance(0.4) and true.rows is not None
            forms = _OF_TANGENTS_WRONG if wrong else _OF_TANGENTS
            alike = [each for each in primals if each.type == true.type]
            forms = [form for form in forms if alike or "{p}" not in form]
            return inner.rng.choice(forms).format(d=true, p=(alike or [""])[0], r=true.rows)

        function = scope.function([*types, *types], body, closed=True)
        return scope.define(
            "g", f"with_jvp({name}, lambda ps, ts: ({name}(*ps), {function}(*ps, *ts)))"
        )

    spelled = ", ".join(map(str, inputs))
    first = rule()
    scope.callables.append((first, tuple(types)))
    if scope.chance(0.3):
        return f"{first}({spelled}) + {rule()}({spelled})"
    return f"{first}({spelled})"


@builds("custom_vjp_call_jaxpr", "custom_jvp_call")
def _jaxs_own(scope: Scope) -> str:
    a = scope.pick()
    name = scope.rng.choice(
        [*_JAXS_OWN, "jax.nn.relu6", "jax.nn.elu", "jax.nn.selu", "jax.scipy.special.logit",
         "jax.nn.log_sigmoid", "jax.scipy.special.xlogy"]
    )  # fmt: skip
    if name.endswith("xlogy"):
        return f"{name}({a}, jnp.abs({a}) + 0.5)"
    return f"{name}({a})" if "logit" not in name else f"{name}(jax.nn.sigmoid({a}))"
