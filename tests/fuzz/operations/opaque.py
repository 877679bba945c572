"""Lines that call what opens later or never: high-level operations, the host, kernels of rows."""

from __future__ import annotations

from ..scope import Scope, Unfit
from .registry import builds

_HIGH_LEVEL = [
    "jnp.searchsorted(jnp.sort({t}), {a})",
    "jax.vmap(lambda r, t: jnp.searchsorted(jnp.sort(t.ravel()), r))({a}, {b})",
    "jnp.searchsorted(jnp.sort({a}.ravel()), {t})",
    "jax.vmap(lambda r: jnp.nonzero(r.ravel() > 0, size={n})[0])({a})",
    "jnp.nonzero({a}.ravel() > 0, size={n})[0]",
    "jax.lax.stop_gradient(jnp.frexp({a})[0])",
]


@builds("call_hi_primitive", weight=2)
def _high_level(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    form = scope.rng.choice(_HIGH_LEVEL)
    return form.format(a=a, b=scope.another(a), t=scope.shared((3,)), n=scope.size(1, 3))


@builds("call_hi_primitive", "eval_jaxpr", "custom_jvp_call")
def _root(scope: Scope) -> str:
    a = scope.pick(low=1, high=2)
    spread = f" + v.mean({scope.rng.randrange(a.rank)}, keepdims=True)"
    mixed = spread if scope.chance(4 * scope.setting.mixing) else ""
    return (
        f"jax.lax.custom_root(lambda y: y + y**3 - jnp.tanh({a}), jnp.zeros_like({a}), "
        f"lambda f, y: jax.lax.fori_loop(0, 9, lambda _, y: y - f(y) / (1 + 3 * y * y), y), "
        f"lambda f, v: v / f(jnp.ones_like(v)){mixed})"
    )


_METHODS = ["expand_dims", "broadcast_all", "sequential"]
_ON_HOST = ["np.tanh(v)", "np.asarray(v) - np.asarray(v).mean(0)", "np.cumsum(v, -1)"]


@builds("pure_callback")
def _callback(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    # Other threads have no float64.
    number = f"jax.lax.stop_gradient({a}).astype(jnp.float32)"
    mapped = scope.chance(0.7)
    host = _ON_HOST[0] if mapped or a.rank < 2 else scope.rng.choice(_ON_HOST)
    # Only what keeps a leading axis apart may say so: `jax.vmap` takes its word.
    mixes = "mean" in host
    method = "sequential" if mixes else scope.rng.choice(_METHODS)
    call = (
        f"lambda r: jax.pure_callback(lambda v: {host}.astype('float32'), jax.typeof(r), r, "
        f"vmap_method='{method}')"
    )
    return f"jax.vmap({call})({number})" if mapped else f"({call})({number})"


@builds("conv_general_dilated", weight=3)
def _kernel_of_each_row(scope: Scope) -> str:
    image = scope.pick(low=3, high=3, rows=True, where=lambda v: v.rows == 0)
    length, features = image.shape[1:]
    if length > 4 or features > 4:
        raise Unfit
    groups = scope.rng.choice([1, 1, features])
    kernel = f"jnp.stack([{image}[:, :1, :{features // groups}]] * {2 * groups}, -1)"
    call = (
        f"lambda i, k: jax.lax.conv_general_dilated(i[None], k, ({scope.size(1, 2)},), 'SAME', "
        f"dimension_numbers=('NWC', 'WIO', 'NWC'), feature_group_count={groups})[0]"
    )
    axes = scope.rng.choice(["0", "0", "(None, 0)", "(0, None)"])
    given = {
        "0": f"{image}, {kernel}",
        "(None, 0)": f"{scope.shared((length, features))}, {kernel}",
        "(0, None)": f"{image}, {scope.shared((1, features // groups, 2 * groups))}",
    }[axes]
    return f"jax.vmap({call}, in_axes={axes})({given})"
