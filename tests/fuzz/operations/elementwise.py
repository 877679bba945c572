"""Lines that treat every element alone."""

from __future__ import annotations

from ..scope import Scope, Unfit, Value
from .registry import builds

# What maps floats to floats; {a} stands for the input, kept where the function is smooth.
_UNARY = {
    "abs": "jnp.abs({a})",
    "bessel_i0e": "jax.lax.bessel_i0e({a})",
    "bessel_i1e": "jax.lax.bessel_i1e({a})",
    "ceil": "jnp.ceil({a})",
    "floor": "jnp.floor({a})",
    "is_finite": "jax.lax.is_finite({a}).astype(float)",
    "rsqrt": "jax.lax.rsqrt(jnp.abs({a}) + 0.5)",
    "sign": "jnp.sign({a})",
    "sqrt": "jnp.sqrt(jnp.abs({a}) + 0.5)",
    "square": "jnp.square({a})",
    "acos": "jax.lax.acos(jnp.tanh({a}) * 0.9)",
    "acosh": "jax.lax.acosh(jnp.abs({a}) + 1.5)",
    "asin": "jax.lax.asin(jnp.tanh({a}) * 0.9)",
    "asinh": "jax.lax.asinh({a})",
    "atan": "jax.lax.atan({a})",
    "atanh": "jax.lax.atanh(jnp.tanh({a}) * 0.9)",
    "cbrt": "jax.lax.cbrt(jnp.abs({a}) + 0.5)",
    "cos": "jnp.cos({a})",
    "cosh": "jnp.cosh(jnp.tanh({a}))",
    "digamma": "jax.lax.digamma(jnp.abs({a}) + 0.5)",
    "erf": "jax.lax.erf({a})",
    "erf_inv": "jax.lax.erf_inv(jnp.tanh({a}) * 0.9)",
    "erfc": "jax.lax.erfc({a})",
    "exp": "jnp.exp(jnp.minimum({a}, 2.0))",
    "exp2": "jnp.exp2(jnp.minimum({a}, 2.0))",
    "expm1": "jnp.expm1(jnp.minimum({a}, 2.0))",
    "lgamma": "jax.lax.lgamma(jnp.abs({a}) + 0.5)",
    "log": "jnp.log(jnp.abs({a}) + 0.5)",
    "log1p": "jnp.log1p(jnp.abs({a}))",
    "log2": "jnp.log2(jnp.abs({a}) + 0.5)",
    "logistic": "jax.lax.logistic({a})",
    "sin": "jnp.sin({a})",
    "sinh": "jnp.sinh(jnp.tanh({a}))",
    "tan": "jnp.tan(jnp.tanh({a}))",
    "tanh": "jnp.tanh({a})",
    "neg": "-{a}",
    "stop_gradient": "jax.lax.stop_gradient({a})",
    "copy": "jnp.array({a}, copy=True)",
    "name": "jax.ad_checkpoint.checkpoint_name({a}, 'kept')",
    "device_put": "jax.device_put({a})",
    "sharding_constraint": (
        "jax.lax.with_sharding_constraint({a}, jax.sharding.SingleDeviceSharding(jax.devices()[0]))"
    ),
    "optimization_barrier": "jax.lax.optimization_barrier(({a}, {a}))[0]",
    "copy_p": "jnp.array({a}, copy=True)",
    "polynomial": "jnp.polyval(jnp.array([0.1, 0.5, 1.0]), {a})",
    "one_minus_square": "1 - jnp.square({a})",
}
# What takes two floats, and gives floats.
_BINARY = {
    "add": "{a} + {b}",
    "sub": "{a} - {b}",
    "mul": "{a} * {b}",
    "div": "{a} / (jnp.abs({b}) + 0.5)",
    "max": "jnp.maximum({a}, {b})",
    "min": "jnp.minimum({a}, {b})",
    "atan2": "jnp.arctan2({a}, jnp.abs({b}) + 0.5)",
    "pow": "jax.lax.pow(jnp.abs({a}) + 0.5, jnp.tanh({b}))",
    "rem": "jax.lax.rem({a}, jnp.abs({b}) + 0.5)",
    "nextafter": "jax.lax.nextafter({a}, {b})",
    "zeta": "jax.lax.zeta(jnp.abs({a}) + 1.5, jnp.abs(jax.lax.stop_gradient({b})) + 0.5)",
    "igamma": "jax.lax.igamma(jnp.abs({a}) + 0.5, jnp.abs({b}) + 0.5)",
    "igammac": "jax.lax.igammac(jnp.abs({a}) + 0.5, jnp.abs({b}) + 0.5)",
    "igamma_grad_a": (
        "jax.lax.igamma_grad_a(jnp.abs(jax.lax.stop_gradient({a})) + 0.5, "
        "jnp.abs(jax.lax.stop_gradient({b})) + 0.5)"
    ),
    "polygamma": "jax.lax.polygamma(jnp.full_like({a}, {n}), jnp.abs({a}) + 0.5)",
    "regularized_incomplete_beta": (
        "jax.lax.betainc(jnp.abs(jax.lax.stop_gradient({a})) + 0.5, "
        "jnp.abs(jax.lax.stop_gradient({b})) + 0.5, jax.nn.sigmoid({a}))"
    ),
    "clamp": "jax.lax.clamp(-jnp.abs({a}), {b}, jnp.abs({a}))",
}
_COMPARISON = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_WHOLE = {
    "and": "{a} & {b}",
    "or": "{a} | {b}",
    "xor": "{a} ^ {b}",
    "not": "~{a}",
    "population_count": "jax.lax.population_count({a})",
    "clz": "jax.lax.clz({a})",
    "shift_left": "{a} << {n}",
    "shift_right_arithmetic": "{a} >> {n}",
    "shift_right_logical": "jax.lax.shift_right_logical({a}, jnp.full_like({a}, {n}))",
    "rem": "{a} % (jnp.abs({b}) + {m})",
    "div": "{a} // (jnp.abs({b}) + {m})",
    "sign": "jnp.sign({a})",
    "max": "jnp.maximum({a}, {b})",
    "mul": "{a} * {b}",
    "mulhi": "jax.lax.mulhi({a}, {b})",
}


def partner(scope: Scope, a: Value) -> str:
    """Return code for something that an elementwise operation takes together with a variable."""
    kind = scope.rng.choice(["same", "same", "scalar", "vector", "step", "other", "row"])
    if a.type.kind != "float" or a.rank == 0:
        kind = "same"
    if kind == "scalar":
        return scope.scalar()
    if kind == "vector" and a.rows != a.rank - 1:
        return str(scope.shared((a.shape[-1],)))
    if kind == "step" and not scope.closed:
        return str(scope.step_value(()))
    if kind == "row" and a.rows == 0 and a.rank > 1 and not scope.closed:
        return f"{scope.rows_value(())}[{', '.join([':'] + ['None'] * (a.rank - 1))}]"
    if kind == "other":
        others = [
            each
            for each in scope.values
            if each.type.kind == "float" and each.rank <= a.rank and _broadcasts(each, a)
        ]
        if others:
            return str(scope.rng.choice(others))
    return str(scope.another(a))


def _broadcasts(small: Value, big: Value) -> bool:
    """Say whether one variable spreads over another, as NumPy would do it."""
    pairs = ((small.type.small, big.type.small), (small.type.large, big.type.large))
    return all(
        n in (m, 1)
        for ours, theirs in pairs
        for n, m in zip(ours[::-1], theirs[::-1], strict=False)
    )


def _unary(template: str) -> object:
    return lambda scope: template.format(a=scope.pick())


def _binary(template: str) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick()
        # Special functions of JAX want arrays of one shape.
        same = "jax.lax." in template
        b = str(scope.another(a)) if same else partner(scope, a)
        return template.format(a=a, b=b, n=scope.size(1, 3))

    return build


def _whole(template: str) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick("int")
        return template.format(a=a, b=scope.another(a), n=scope.size(1, 3), m=scope.size(1, 3))

    return build


for _name, _template in _UNARY.items():
    builds(_name)(_unary(_template))  # type: ignore[arg-type]
for _name, _template in _BINARY.items():
    builds(_name)(_binary(_template))  # type: ignore[arg-type]
for _name, _template in _WHOLE.items():
    builds(_name)(_whole(_template))  # type: ignore[arg-type]


def _comparison(sign: str) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick(("float", "int"))
        compared = f"({a} {sign} {partner(scope, a)})"
        return scope.rng.choice(
            [compared, f"{compared}.astype(float)", f"jnp.where({compared}, {a}, 0)"]
        )

    return build


for _name, _sign in _COMPARISON.items():
    builds(_name)(_comparison(_sign))  # type: ignore[arg-type]


def _total_order(name: str) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick()
        return f"jax.extend.core.primitives.{name}_p.bind({a}, {scope.another(a)}).astype(float)"

    return build


for _name in ("eq_to", "lt_to", "le_to"):
    builds(_name)(_total_order(_name))  # type: ignore[arg-type]


@builds("round")
def _round(scope: Scope) -> str:
    method = f"jax.lax.RoundingMethod({scope.size(0, 1)})"
    return f"jax.lax.round({scope.pick()}, {method})"


@builds("integer_pow", weight=2)
def _integer_pow(scope: Scope) -> str:
    a = scope.pick()
    form = scope.rng.choice(["{a} ** {n}", "jax.lax.integer_pow({a}, {n})", "jnp.tanh({a}) ** {n}"])
    return form.format(a=a, n=scope.size(1, 4))


@builds("reduce_precision", weight=2)
def _reduce_precision(scope: Scope) -> str:
    a = scope.pick()
    return f"jax.lax.reduce_precision({a}, {scope.size(4, 9)}, {scope.size(2, 12)})"


@builds("convert_element_type", weight=2)
def _convert(scope: Scope) -> str:
    a = scope.pick(("float", "int", "bool"))
    kinds = ["float", "int", "bool", "complex", "jnp.int8", "jnp.uint32"]
    kind = scope.rng.choice(kinds)
    back = ".real" if kind == "complex" else ""
    return scope.rng.choice(
        [f"{a}.astype({kind})", f"({a} * 3).astype({kind}){back}.astype(float)"]
    )


@builds("bitcast_convert_type")
def _bitcast(scope: Scope) -> str:
    a = scope.pick()
    return scope.rng.choice(
        [
            f"jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type({a}, jnp.int64), float)",
            f"jax.lax.bitcast_convert_type({a}, jnp.uint32) % 7",
        ]
    )


@builds("complex", "real", "imag", "conj")
def _complex(scope: Scope) -> str:
    a = scope.pick()
    b = scope.another(a)
    part = scope.rng.choice(["jnp.real", "jnp.imag", "jnp.abs", "jnp.conj", ""])
    return f"{part}(jax.lax.complex({a}, {b}) * {scope.rng.choice(['1j', '(0.5 + 1j)', '2.0'])})"


@builds("conj")
def _conjugate(scope: Scope) -> str:
    a = scope.pick("complex")
    return scope.rng.choice([f"jnp.conj({a}) * {a}", f"(jnp.conj({a}) * 1j).real"])


@builds("select_n", weight=2)
def _select(scope: Scope) -> str:
    a = scope.pick()
    b = scope.another(a)
    if scope.chance(0.3):
        cases = ", ".join(str(scope.another(a)) for _ in range(3))
        which = scope.another(a, "int")
        return f"jax.lax.select_n(jnp.abs({which}).astype(jnp.int32) % 3, {cases})"
    other = scope.rng.choice([str(scope.another(a)), scope.scalar()])
    return f"jnp.where({b} > {scope.scalar()}, {a}, {other})"


@builds("add_any")
def _add_any(scope: Scope) -> str:
    a = scope.pick()
    form = scope.rng.choice(["z * jnp.sin(z) + z ** 2", "jnp.cos(z) * z", "z * z * z"])
    return f"jax.vjp(lambda z: {form}, {a})[1]({scope.another(a)})[0]"


@builds("clamp")
def _clip(scope: Scope) -> str:
    return f"jnp.clip({scope.pick()}, -{scope.rng.choice(['0.5', '1.0'])}, {scope.scalar()} + 1.0)"


@builds("mul", weight=2)
def _scaled(scope: Scope) -> str:
    sign = scope.rng.choice(["*", "+", "-", "/"])
    scalar = scope.scalar()
    if sign == "/" and float_of(scalar) == 0:
        raise Unfit
    return f"{scope.pick()} {sign} {scalar}"


def float_of(code: str) -> float:
    """Return the number that code is, 1 if it is not written out."""
    try:
        return float(code)
    except ValueError:
        return 1.0
