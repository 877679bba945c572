"""Lines that run along an axis: reductions, sums on the way, windows, sorts, transforms."""

from __future__ import annotations

from ..scope import Scope, Unfit, Value
from .registry import builds
from .shapes import axis_code, free_axis, per_axis

_REDUCTIONS = {
    "reduce_sum": ["{a}.sum({x})", "{a}.mean({x})", "{a}.var({x})", "{a} - {a}.mean({x}, keepdims=True)"],  # noqa: E501
    "reduce_max": ["{a}.max({x})", "jax.nn.softmax({a}, {x})", "jax.nn.logsumexp({a}, {x})"],
    "reduce_min": ["{a}.min({x})", "{a} - {a}.min({x}, keepdims=True)"],
    "reduce_prod": ["jnp.prod(jnp.tanh({a}), {x})"],
    "reduce_and": ["jnp.all({a} > -0.5, {x}).astype(float)", "jnp.where(jnp.all({a} > -1, {x}, keepdims=True), {a}, 0)"],  # noqa: E501
    "reduce_or": ["jnp.any({a} > 0.5, {x}).astype(float)"],
    "argmax": ["jnp.argmax({a}, {x})"],
    "argmin": ["jnp.argmin({a}, {x})"],
}  # fmt: skip


def _reduction(forms: list[str]) -> object:
    def build(scope: Scope) -> str:
        a = scope.pick(low=1)
        axis = free_axis(scope, a)
        code = axis_code(scope, a, axis)
        form = scope.rng.choice(forms)
        others = [i for i in range(a.rank) if i not in (axis, a.rows)]
        if others and "arg" not in form and "softmax" not in form and scope.chance(0.2):
            code = f"({code}, {scope.rng.choice(others)})"
        return form.format(a=a, x=code)

    return build


for _name, _forms in _REDUCTIONS.items():
    builds(_name)(_reduction(_forms))  # type: ignore[arg-type]


@builds("reduce_xor")
def _xor(scope: Scope) -> str:
    a = scope.pick("int", low=1)
    return f"jax.lax.reduce_xor({a}, ({scope.number(free_axis(scope, a))},))"


@builds("reduce_sum", "reduce_max")
def _reduction_of_whole_numbers(scope: Scope) -> str:
    a = scope.pick(("int", "bool"), low=1)
    how = scope.rng.choice(["sum", "max"])
    return f"{a}.{how}({axis_code(scope, a, free_axis(scope, a))})"


def reducer(scope: Scope) -> str:
    """Return code for a function of two numbers."""
    return scope.rng.choice(
        ["lambda p, q: p + q + p * q", f"lambda p, q: p + q * {scope.scalar()}"]
    )


@builds("reduce")
def _reduce(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = scope.number(free_axis(scope, a))
    how = reducer(scope)
    start = scope.rng.choice(["0.0", "0.0", scope.scalar()])
    return f"jax.lax.reduce({a}, {start}, {how}, ({axis},))"


@builds("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", weight=1)
def _cumulative(scope: Scope) -> str:
    a = scope.pick(low=1)
    name = scope.rng.choice(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"])
    axis = scope.number(free_axis(scope, a))
    reverse = scope.rng.choice(["", ", reverse=True"])
    return f"jax.lax.{name}({a}, {axis}{reverse})"


@builds("sort", weight=2)
def _sort(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    b = scope.another(a)
    form = scope.rng.choice(
        [
            "jnp.sort({a}, {x})",
            "jnp.argsort({a}, {x})",
            *["jax.lax.sort(({a}, {b}), dimension={d}, num_keys={n})[{i}]"] * 2,
            "jax.lax.sort(({a}, {b}, {a}), dimension={d}, num_keys=min({n}, 3))[{i}]",
            "jax.lax.sort_key_val({a}, {b}, {d})[{i}]",
            "jnp.median({a}, {d})",
            "jnp.quantile({a}, 0.3, {d})",
        ]
    )
    return form.format(
        a=a, b=b, x=axis_code(scope, a, axis), d=axis, n=scope.size(1, 2), i=scope.rng.randrange(2)
    )


@builds("top_k", "approx_top_k")
def _top_k(scope: Scope) -> str:
    a = scope.pick(low=1)
    last = a.shape[-1]
    if a.rows == a.rank - 1 and not scope.chance(scope.setting.mixing):
        raise Unfit
    part = scope.rng.randrange(2)
    if scope.chance(0.4):
        return f"jax.lax.approx_max_k({a}, {scope.size(1, last)})[{part}]"
    return f"jax.lax.top_k({a}, {scope.size(1, last)})[{part}]"


def _windows(scope: Scope, a: Value) -> str:
    """Return code for window, strides, padding and dilations along one axis or two."""
    axes = {free_axis(scope, a)}
    if a.rank > 2 and scope.chance(0.3):
        axes.add(free_axis(scope, a))
    window = per_axis(a, {x: scope.size(1, min(3, a.shape[x])) for x in axes}, "1")
    strides = per_axis(a, {x: scope.size(1, 2) for x in axes}, "1")
    padding = scope.rng.choice(
        ["'VALID'", "'SAME'", per_axis(a, {x: f"({scope.size(0, 1)}, {scope.size(0, 1)})" for x in axes}, "(0, 0)")]  # noqa: E501
    )  # fmt: skip
    return f"{window}, {strides}, {padding}"


def _dilations(scope: Scope, a: Value) -> str:
    if scope.chance(0.7):
        return ""
    axis = free_axis(scope, a)
    base = per_axis(a, {axis: scope.size(1, 2)}, "1")
    window = per_axis(a, {axis: scope.size(1, 2)}, "1")
    return f", base_dilation={base}, window_dilation={window}"


@builds("reduce_window_sum", "reduce_window_max", "reduce_window_min", weight=2)
def _reduce_window(scope: Scope) -> str:
    a = scope.pick(low=1, where=lambda v: v.rank > 1)
    start, how = scope.rng.choice(
        [("0.0", "jax.lax.add"), ("-jnp.inf", "jax.lax.max"), ("jnp.inf", "jax.lax.min")]
    )
    windows = _windows(scope, a)
    return f"jnp.maximum(-9.0, jnp.minimum(9.0, jax.lax.reduce_window({a}, {start}, {how}, {windows}{_dilations(scope, a)})))"  # noqa: E501


@builds("reduce_window")
def _reduce_window_by_function(scope: Scope) -> str:
    a = scope.pick(low=2)
    how = reducer(scope)
    return f"jax.lax.reduce_window({a}, 0.0, {how}, {_windows(scope, a)}{_dilations(scope, a)})"


@builds("select_and_scatter_add", "select_and_gather_add", weight=2)
def _pooling_derived(scope: Scope) -> str:
    a = scope.pick(low=2)
    axis = free_axis(scope, a)
    window = per_axis(a, {axis: scope.size(1, min(2, a.shape[axis]))}, "1")
    strides = per_axis(a, {axis: scope.size(1, 2)}, "1")
    pool = (
        f"lambda z: jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, {window}, {strides}, 'VALID')"
    )
    if scope.chance(0.5):
        return f"jax.grad(lambda z: ({pool})(z).sum())({a})"
    return f"jax.jvp({pool}, ({a},), ({scope.another(a)},))[1]"


@builds("tdjax_window_best", "tdjax_window_pick", "tdjax_window_spread")
def _pooled_in_blocks(scope: Scope) -> str:
    a = scope.pick(low=2, high=3, where=lambda v: v.rows == 0)
    spread = f"{a}[:, :, None]" if a.rank == 2 else str(a)
    window, stride = scope.size(1, 3), scope.size(1, 2)
    take = scope.rng.choice(["-jnp.inf, jax.lax.max", "jnp.inf, jax.lax.min"])
    pool = (
        f"lambda z: jax.lax.reduce_window(z.reshape(z.shape[0], -1), {take}, "
        f"(1, {window}), (1, {stride}), 'SAME')"
    )
    if scope.chance(0.3):
        pool = f"jax.grad(lambda z: ({pool})(z).sum())"
    unroll = scope.rng.choice(["", ", unroll=True"])
    strategy = f"tdjax.Fold(chunk_size={scope.size(1, 3)}{unroll})"
    pooled = f"tdjax.time_distributed({pool}, strategy={strategy})"
    if scope.chance(0.5):
        return f"jax.jvp({pooled}, ({spread},), ({spread},))[1]"
    return f"{pooled}({spread})"


@builds("fft", weight=2)
def _fft(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    length = scope.size(2, 4)
    form = scope.rng.choice(
        [
            "jnp.abs(jnp.fft.rfft({a}, {n}, axis={x}))",
            "jnp.fft.fft({a}, {n}, axis={x}).real",
            "jnp.fft.ifft({a}, axis={x}).imag",
            "jnp.fft.irfft({a}.astype(complex), {n}, axis={x})",
            "jnp.fft.fftshift({a}, {x})",
            "jax.lax.fft({a}.astype(complex), 'fft', ({l},)).real",
        ]
    )
    if a.rows == a.rank - 1 and "jax.lax" in form:
        raise Unfit
    return form.format(a=a, n=length, x=axis, l=scope.number(a.shape[-1]))
