"""Lines that draw, with every public function of `jax.random`."""

from __future__ import annotations

import jax

from ..scope import Scope, Unfit, Value
from .registry import builds

# Arguments of the public functions that draw: {k} is a key, {s} a shape, {p} a positive parameter of  # noqa: E501
# that shape, {n} a number, {l} log-probabilities whose last axis is a row's.
DRAWS = {
    "ball": "{k}, 2, shape={s}",
    "bernoulli": "{k}, 0.4, {s}",
    "beta": "{k}, {p}, {p}, {s}",
    "binomial": "{k}, 5, jnp.minimum({p}, 0.9), {s}",
    "bits": "{k}, {s}",
    "categorical": "{k}, {l}",
    "cauchy": "{k}, {s}",
    "chisquare": "{k}, {p}, {s}",
    "choice": "{k}, 7, {s}",
    "dirichlet": "{k}, {p}",
    "double_sided_maxwell": "{k}, 0.0, 1.0, {s}",
    "exponential": "{k}, {s}",
    "f": "{k}, {p}, {p}, {s}",
    "gamma": "{k}, {p}, {s}",
    "generalized_normal": "{k}, 1.5, {s}",
    "geometric": "{k}, 0.4, {s}",
    "gumbel": "{k}, {s}",
    "laplace": "{k}, {s}",
    "loggamma": "{k}, {p}, {s}",
    "logistic": "{k}, {s}",
    "lognormal": "{k}, 1.0, {s}",
    "maxwell": "{k}, {s}",
    "multinomial": "{k}, 4.0, jax.nn.softmax({l}, -1)",
    "multivariate_normal": "{k}, jnp.zeros(2), jnp.eye(2), {s}",
    "normal": "{k}, {s}",
    "orthogonal": "{k}, 2, {s}",
    "pareto": "{k}, {p}, {s}",
    "permutation": "{k}, {l}, axis=-1, independent=True",
    "poisson": "{k}, {p}, {s}",
    "rademacher": "{k}, {s}",
    "randint": "{k}, {s}, 0, 9",
    "rayleigh": "{k}, {p}, {s}",
    "t": "{k}, {p}, {s}",
    "triangular": "{k}, 0.0, 0.4, 1.0, {s}",
    "truncated_normal": "{k}, -1.0, 1.0, {s}",
    "uniform": "{k}, {s}",
    "wald": "{k}, {p}, {s}",
    "weibull_min": "{k}, 1.5, 1.2, {s}",
}
# Public functions that make keys of keys or of numbers.
KEYS = {
    "split": "{k}, {n}",
    "fold_in": "{k}, {n}",
    "clone": "{k}",
    "key_data": "{k}",
    "wrap_key_data": "jax.random.key_data({k})",
    "key": "{n}",
    "PRNGKey": "{n}",
}
# Public names that are no operations.
NO_OPERATIONS = {"Key", "key_dtype", "key_impl", "random_gamma_p"}


def key(scope: Scope, allow_rows: bool = False) -> Value:
    """Return a key for all steps, one a step, or one a row."""
    if scope.closed:
        raise Unfit
    have = [v for v in scope.values if v.type.kind == "key" and v.rank == 0]
    if have and scope.chance(0.3):
        return scope.rng.choice(have)
    if scope.chance(0.45):
        return scope.step_value((), "key")
    return scope.shared((), "key")


def _key_code(scope: Scope) -> str:
    """Return code for a key."""
    if scope.closed or scope.chance(0.25):
        return f"jax.random.key({scope.number(3)})"
    made = str(key(scope))
    form = scope.rng.choice(
        ["{k}", "{k}", "{k}", "jax.random.split({k}, {n})[0]", "jax.random.fold_in({k}, {m})"]
    )
    return form.format(k=made, n=scope.size(1, 3), m=scope.size(1, 3))


def call(name: str, **arguments: str) -> str:
    """Return the call of a public function of `jax.random`."""
    template = DRAWS.get(name) or KEYS[name]
    return f"jax.random.{name}({template.format(**arguments)})"


def _drawn(scope: Scope, name: str) -> str:
    a = scope.pick(low=1, high=3)
    shape = scope.rng.choice([f"{a}.shape", f"{a}.shape", f"{a}.shape[:1]", "one"])
    positive = f"(jnp.abs({a}) + 0.5)"
    if shape == "one":
        ones = [1 if axis == a.rows else size for axis, size in enumerate(a.shape)]
        shape, positive = str(tuple(ones)), "(1.5)"
    elif shape.endswith("[:1]"):
        positive = "(1.5)"
    return _outcome(
        scope,
        a,
        call(name, k=_key_code(scope), s=shape, p=positive, n=scope.size(2, 3), l=str(a)),
    )


def _outcome(scope: Scope, a: Value, code: str) -> str:
    return scope.rng.choice([f"({code}).astype(float)", f"jax.lax.stop_gradient(({code}) * 1.0)"])


def _drawn_by_row(scope: Scope, name: str) -> str:
    """Draw for every row with a key of its own, or with the same key in every row."""
    a = scope.pick(low=2, high=3, where=lambda v: v.rows == 0)
    shape, positive = "r.shape", "(jnp.abs(r) + 0.5)"
    inner = call(name, k="q", s=shape, p=positive, n=scope.size(2, 3), l="r")
    if scope.chance(0.7) and not scope.closed:
        keys = scope.rows_value((), "key")
        return f"jax.vmap(lambda q, r: ({inner}).astype(float))({keys}, {a})"
    return f"jax.vmap(lambda r, q={_key_code(scope)}: ({inner}).astype(float))({a})"


@builds("random_bits", "rng_bit_generator", weight=2)
def _any_draw(scope: Scope) -> str:
    name = scope.rng.choice([each for each in DRAWS if hasattr(jax.random, each)])
    return _drawn_by_row(scope, name) if scope.chance(0.3) else _drawn(scope, name)


@builds("random_gamma", weight=2)
def _gamma(scope: Scope) -> str:
    name = scope.rng.choice(
        ["gamma", "loggamma", "beta", "dirichlet", "t", "chisquare", "f", "wald"]
    )
    return _drawn_by_row(scope, name) if scope.chance(0.3) else _drawn(scope, name)


@builds(
    "random_split", "random_fold_in", "random_wrap", "random_unwrap", "random_clone", "random_seed"
)
def _keys(scope: Scope) -> str:
    a = scope.pick(low=1, rows=True)
    name = scope.rng.choice(list(KEYS))
    n = scope.rng.choice([scope.size(1, 4), f"{a}.shape[{a.rows}]"])
    made = f"{call(name, k=_key_code(scope), n=n)}"
    one = f"({made}).reshape(-1)[0]"
    if name == "split" and a.rows == 0 and scope.chance(0.5):
        draw = "jax.vmap(lambda q, r: jax.random.normal(q, r.shape))"
        return f"{draw}({call(name, k=_key_code(scope), n=f'{a}.shape[0]')}, {a})"
    if name in ("key_data", "PRNGKey"):
        return f"(({made}).reshape(-1) % 7).astype(float)"
    return f"{a} + jax.random.normal({one}, {scope.rng.choice(['()', f'{a}.shape'])})"


@builds("random_fold_in", "random_seed")
def _folded_by_row(scope: Scope) -> str:
    a = scope.pick(low=1, where=lambda v: v.rows == 0)
    data = f"jnp.abs(jnp.floor({a}.reshape({a}.shape[0], -1)[:, 0] * 5)).astype(jnp.uint32)"
    make = scope.rng.choice(
        ["lambda d, r: jax.random.normal(jax.random.fold_in({k}, d), r.shape)",
         "lambda d, r: jax.random.normal(jax.random.key(d), r.shape)"]
    )  # fmt: skip
    return f"jax.vmap({make.format(k=_key_code(scope))})({data}, {a})"


@builds("threefry2x32", "rng_bit_generator")
def _raw_generator(scope: Scope) -> str:
    a = scope.pick(low=1, rows=True)
    if scope.chance(0.5):
        algorithm, state = scope.rng.choice(
            [
                ("RNG_THREE_FRY", "jnp.arange(4, dtype=jnp.uint32)"),
                ("RNG_PHILOX", "jnp.arange(4, dtype=jnp.uint32)"),
                ("RNG_DEFAULT", "jnp.arange(4, dtype=jnp.uint32)"),
            ]
        )
        if not scope.closed and scope.chance(0.4):
            state = f"jnp.resize(jax.random.key_data({key(scope)}), 4)"
        shape = scope.rng.choice([f"{a}.shape", "(3,)"])
        algorithm = f"algorithm=jax.lax.RandomAlgorithm.{algorithm}"
        return f"(jax.lax.rng_bit_generator({state}, {shape}, {algorithm})[1] % 9).astype(float)"
    counts = scope.rng.choice(
        [f"jnp.abs(jnp.floor({a} * 9)).astype(jnp.uint32)", "jnp.arange(4, dtype=jnp.uint32)"]
    )
    bits = "jax.extend.random.threefry_2x32(jnp.array([1, 2], jnp.uint32), {c})"
    bind = (
        "jax.extend.core.primitives.threefry2x32_p.bind(jnp.uint32(1), jnp.uint32(2), {c}, {c})[0]"
    )
    return f"({scope.rng.choice([bits, bind]).format(c=counts)} % 9).astype(float)"
