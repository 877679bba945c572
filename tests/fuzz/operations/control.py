"""Lines that hold programs: calls, loops, branches, maps over rows."""

from __future__ import annotations

from ..scope import INT, Scope, Type, Unfit, Value
from .registry import builds, changed, fitted, grow


def unary(scope: Scope, given: Type, like: bool = False, closed: bool = False) -> str:
    """Write a function of one variable, and return its name.

    Args:
        scope: where the function stands.
        given: the type of the variable.
        like: whether it has to return the same type.
        closed: whether it may read nothing else.
    """

    def body(inner: Scope, params: list[Value]) -> str:
        if like:
            return str(changed(inner, params[0], inner.rng.choice([1, 1, 2])))
        made = grow(inner, inner.rng.choice([1, 1, 2]))
        if not made:
            raise Unfit
        return str(made[-1])

    return scope.function([given], body, closed)


_CALLS = {
    "jit": ["jax.jit({f})", "jax.jit({f}, inline=True)"],
    "composite": ['jax.lax.composite({f}, name="tests.fuzz")'],
    "checkpoint": [
        "jax.checkpoint({f})",
        "jax.checkpoint({f}, policy=jax.checkpoint_policies.dots_saveable)",
        "jax.checkpoint({f}, policy=jax.checkpoint_policies.nothing_saveable, prevent_cse=False)",
    ],
}


def _call(forms: list[str]) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick(("float", "float", "int"))
        name = scope.define("g", scope.rng.choice(forms).format(f=unary(scope, a.type)))
        scope.callables.append((name, (a.type,)))
        return f"{name}({a})"

    return build


for _name, _forms in _CALLS.items():
    builds(_name, weight=2)(_call(_forms))  # type: ignore[arg-type]
for _old in ("pjit", "remat", "remat2", "core_call"):
    builds(_old)(_call([each for forms in _CALLS.values() for each in forms]))  # type: ignore[arg-type]


@builds("jit", "checkpoint", "custom_vjp_call", "custom_jvp_call", weight=2)
def _called_again(scope: Scope) -> str:
    """Call a function that was called before on something else."""
    if not scope.callables:
        raise Unfit
    name, types = scope.rng.choice(scope.callables)
    found = []
    for wanted in types:
        fitting = [value for value in scope.values if value.type == wanted]
        if not fitting:
            raise Unfit
        found.append(scope.rng.choice(fitting))
    return f"{name}({', '.join(map(str, found))})"


@builds("closed_call", "call", "eval_jaxpr")
def _closed_call(scope: Scope) -> str:
    a = scope.pick()
    f = unary(scope, a.type, closed=True)
    return f"closed_call({f}, {a})"


def predicate(scope: Scope, a: Value) -> str:
    """Return code for a condition: of all steps, of one step, or, mixing rows, of data."""
    form = scope.rng.choice(["shared", "step", "number", "data"])
    if form == "data" and scope.chance(3 * scope.setting.mixing):
        return scope.rng.choice(
            [f"{a}.sum() > 0", f"jnp.any({a} > 1.0)", f"{a}.reshape(-1)[0] > 0"]
        )
    if form == "number":
        return f"{scope.size(1, 3)} > 2"
    if form == "step" and not scope.closed:
        return str(scope.step_value((), "bool"))
    return str(scope.shared((), "bool"))


@builds("cond", weight=3)
def _cond(scope: Scope) -> str:
    a = scope.pick()
    first = unary(scope, a.type, like=True)
    if scope.chance(0.3):
        second, third = unary(scope, a.type, like=True), "lambda z: z * 0.5"
        form = scope.rng.choice(["shared", "step", "number"])
        which = scope.size(0, 2) if form == "number" else str(scope.shared((), "int"))
        if form == "step" and not scope.closed:
            which = str(scope.step_value((), "int"))
        return f"jax.lax.switch({which}, [{first}, {second}, {third}], {a})"
    second = scope.rng.choice([unary(scope, a.type, like=True), "lambda z: z", "lambda z: z * 2.0"])
    return f"jax.lax.cond({predicate(scope, a)}, {first}, {second}, {a})"


@builds("scan", weight=3)
def _scan(scope: Scope) -> str:
    a = scope.pick()
    length = scope.integer(1, 3)
    form = scope.rng.choice(["length", "own", "shared", "keys", "count"])
    result = scope.rng.choice(["[0]", "[0]", "[1]"])
    xs, given = "None", None
    if form == "own":
        axes = [axis for axis in range(a.rank) if axis != a.rows]
        if not axes:
            raise Unfit
        axis = scope.rng.choice(axes)
        xs, given = f"jnp.moveaxis({a}, {axis}, 0)", a.type.without(axis)
    elif form == "shared":
        weights = scope.shared(
            (length, *([a.shape[-1]] if a.rank and a.rows != a.rank - 1 else []))
        )
        xs, given = str(weights), weights.type.without(0)
    elif form == "keys" and not scope.closed:
        from .noise import key

        base = key(scope)
        xs, given = f"jax.random.split({base}, {length})", base.type
    elif form == "count":
        xs, given = f"jnp.arange({length})", Type((), (), INT)

    def body(inner: Scope, params: list[Value]) -> str:
        carry = params[0]
        if inner.chance(0.5) and len(params) == 2 and params[1].type.kind == "float":
            carry = inner.line(fitted(inner, params[1], params[0]))
        after = changed(inner, carry, inner.rng.choice([1, 1, 2]))
        after = after if after.type == a.type else params[0]
        return (
            f"({after}, {inner.rng.choice([v for v in inner.values if v.type.kind != 'key'][-3:])})"
        )

    params = [a.type] if given is None else [a.type, given]
    name = scope.function(params, body)
    taken = name if given is not None else f"lambda c, _: {name}(c)"
    more = scope.rng.choice(["", "", ", reverse=True", f", unroll={scope.size(1, 2)}"])
    more += f", length={scope.number(length)}" if xs == "None" else ""
    return f"jax.lax.scan({taken}, {a}, {xs}{more}){result}"


@builds("scan", "while", weight=2)
def _fori(scope: Scope) -> str:
    a = scope.pick()
    f = unary(scope, a.type, like=True)
    low, high = scope.number(0), scope.size(1, 3)
    if scope.chance(0.2):
        high = str(scope.shared((), "int"))
    form = scope.rng.choice(
        ["lambda _, c: {f}(c)", "lambda i, c: {f}(c) + i", "lambda i, c: {f}(c * i)"]
    )
    return f"jax.lax.fori_loop({low}, {high}, {form.format(f=f)}, {a})"


@builds("while", weight=2)
def _while(scope: Scope) -> str:
    a = scope.pick()
    f = unary(scope, a.type, like=True)
    limit = scope.size(1, 3)
    if scope.chance(0.3):
        limit = str(
            scope.shared((), "int")
            if scope.closed or scope.chance(0.5)
            else scope.step_value((), "int")
        )
    test = f"lambda c: c[0] < {limit}"
    if scope.chance(2 * scope.setting.mixing):
        test = f"lambda c: (c[0] < 4) & (jnp.abs(c[1]) > 0.5).{scope.rng.choice(['any', 'all'])}()"
    return f"jax.lax.while_loop({test}, lambda c: (c[0] + 1, {f}(c[1])), (0, {a}))[1]"


@builds("while", "cond", "scan", "jit", "gather")
def _row_by_row(scope: Scope) -> str:
    a = scope.pick(low=2, where=lambda v: v.rows == 0)
    row = a.type.without(0)
    form = scope.rng.choice(["vmap", "vmap", "map", "map_batch", "while", "cond", "named", "carry"])
    f = unary(scope, row, like=form != "vmap")
    if form == "vmap":
        return f"jax.vmap({f})({a})"
    if form == "map":
        return f"jax.lax.map({f}, {a})"
    if form == "map_batch":
        return f"jax.lax.map({f}, {a}, batch_size={scope.size(1, 3)})"
    if form == "while":
        loop = f"jax.lax.while_loop(lambda c: (c[0] < 3) & (c[1].max() > 0), lambda c: (c[0] + 1, {f}(c[1]) - 0.5), (0, r))[1]"  # noqa: E501
        return f"jax.vmap(lambda r: {loop})({a})"
    if form == "cond":
        return f"jax.vmap(lambda r: jax.lax.cond(r.sum() > 0, {f}, lambda z: -z, r))({a})"
    if not scope.chance(3 * scope.setting.mixing):
        raise Unfit
    if form == "named":
        how = scope.rng.choice(["pmean", "psum", "pmax"])
        return f"jax.vmap(lambda r: {f}(r) - jax.lax.{how}(r, 'i') * 0.5, axis_name='i')({a})"
    return f"jax.lax.scan(lambda c, r: (c * 0.5 + {f}(r), c), jnp.zeros({a}.shape[1:]), {a})[1]"


@builds("pure_callback")
def _callback(scope: Scope) -> str:
    a = scope.pick(low=1)
    method = scope.rng.choice(["expand_dims", "broadcast_all", "sequential"])
    given = f"jax.lax.stop_gradient({a})"
    host = scope.rng.choice(["np.sin", "np.square", "lambda z: np.cumsum(z, -1)"])
    if scope.chance(0.5) and a.rows == 0:
        row = f"jax.pure_callback({host}, r, r, vmap_method={method!r})"
        return f"jax.vmap(lambda r: {row})({given})" if a.rank > 1 else given
    return f"jax.pure_callback({host}, {a}, {given}, vmap_method={method!r})"


@builds("scan", "concatenate", "pad")
def _associative_scan(scope: Scope) -> str:
    from .shapes import free_axis

    a = scope.pick(low=1)
    how = scope.rng.choice(["jnp.add", "jnp.maximum", "lambda p, q: p * 0.5 + q"])
    return f"jax.lax.associative_scan({how}, {a}, axis={scope.number(free_axis(scope, a))})"


@builds("custom_linear_solve", "custom_jvp_call", "call_hi_primitive")
def _root(scope: Scope) -> str:
    a = scope.pick(low=0, high=2)
    solve = "lambda f, y: jax.lax.fori_loop(0, 20, lambda _, z: z - f(z) / (1 + 3 * z ** 2), y)"
    tangent = "lambda g, y: y / g(jnp.ones_like(y))"
    return (
        f"jax.lax.custom_root(lambda y: y ** 3 + y - {a}, jnp.zeros_like({a}), {solve}, {tangent})"
    )


@builds("jit", "mul", "transpose", "add_any", weight=2)
def _derivative_inside(scope: Scope) -> str:
    a = scope.pick(low=1)
    f = unary(scope, a.type)
    part = f"lambda z: ({f}(z) * 1.0).astype(float).sum()"
    form = scope.rng.choice(["grad", "jvp", "vjp", "weight", "hessian"])
    if form == "grad":
        return f"jax.grad({part})({a})"
    if form == "jvp":
        return f"jax.jvp({f}, ({a},), ({scope.another(a)},))[1]"
    if form == "vjp":
        return f"jax.vjp({f}, {a})[1](jnp.ones_like({f}({a})))[0]"
    if form == "hessian":
        return f"jax.jvp(jax.grad({part}), ({a},), ({scope.another(a)},))[1]"
    if not scope.chance(3 * scope.setting.mixing):
        raise Unfit
    weight = scope.shared((a.shape[-1],))
    return f"{a} * jax.grad(lambda w: {f}({a} * w).sum())({weight})"
