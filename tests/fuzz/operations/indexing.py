"""Lines that read and write at computed places."""

from __future__ import annotations

from ..scope import Scope, Unfit, Value
from .registry import builds
from .shapes import free_axis


def places(scope: Scope, a: Value, axis: int) -> str:
    """Return code for places along an axis that all rows share."""
    size = a.shape[axis]
    if scope.chance(0.4):
        return str(scope.shared((2,), "int", size))
    numbers = ", ".join(scope.size(0, size - 1) for _ in range(scope.rng.choice([1, 2, 3])))
    return f"jnp.array([{numbers}])"


def own_places(scope: Scope, a: Value) -> str:
    """Return code for one place a row along the second axis."""
    if a.rows != 0 or a.rank < 2:
        raise Unfit
    if scope.chance(0.5) and not scope.closed:
        return str(scope.rows_value((), "int", a.shape[1]))
    flat = f"{a}.reshape({a}.shape[0], {a}.shape[1], -1)[..., 0]"
    return f"jnp.argmax({flat}, 1)"


@builds("gather", weight=5)
def _gather(scope: Scope) -> str:
    a = scope.pick(low=1)
    form = scope.rng.choice(
        ["columns", "take", "own", "own_axis", "table", "rows", "step", "sorted"]
    )
    mode = scope.rng.choice(["", ", mode='clip'", ", mode='fill'", ", mode='wrap'"])
    if form in ("columns", "take", "step"):
        axis = free_axis(scope, a)
        where = places(scope, a, axis)
        if form == "step" and not scope.closed:
            where = str(scope.step_value((), "int", a.shape[axis]))
        if form == "columns":
            return f"{a}[{':, ' * axis}{where}]"
        return f"jnp.take({a}, {where}, axis={axis}{mode})"
    if form == "own":
        return f"{a}[jnp.arange({a}.shape[0]), {own_places(scope, a)}]"
    if form == "own_axis":
        if a.rank < 2 or a.rows != 0:
            raise Unfit
        return f"jnp.take_along_axis({a}, jnp.argsort({scope.another(a)}, -1), -1)"
    if form == "table":
        if a.rank < 2:
            raise Unfit
        table = scope.shared((a.shape[-1], scope.feature()))
        return f"{table}[jnp.argmax({a}, -1)]"
    if form == "sorted":
        return f"jnp.searchsorted(jnp.sort({scope.shared((3,))}), {a})"
    if not scope.chance(4 * scope.setting.mixing):
        raise Unfit
    return scope.rng.choice(
        [f"{a}[jnp.argsort({a}.reshape({a}.shape[0], -1)[:, 0])]", f"{a}[::-1]", f"{a}[{places(scope, a, 0)}]"]  # noqa: E501
    )  # fmt: skip


_WAYS = ["set", "add", "multiply", "max", "min", "subtract"]


@builds(
    "scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub", weight=2
)
def _scatter(scope: Scope) -> str:
    a = scope.pick(low=1)
    way = scope.rng.choice(_WAYS)
    form = scope.rng.choice(["columns", "columns", "own", "put", "slice", "histogram"])
    if form in ("columns", "slice"):
        axis = free_axis(scope, a)
        where = places(scope, a, axis) if form == "columns" else f":{scope.size(1, a.shape[axis])}"
        index = f"{':, ' * axis}{where}"
        update = scope.rng.choice([scope.scalar(), f"{a}[{index}] * 0.5"])
        if scope.chance(0.15):
            inner = scope.rng.choice(
                [f"z * {scope.scalar()}", f"jnp.tanh(z) ** {scope.size(1, 3)}"]
            )
            return f"{a}.at[{index}].apply(lambda z: {inner})"
        return f"{a}.at[{index}].{way}({update})"
    if form == "own":
        update = scope.rng.choice([scope.scalar(), f"{a}[:, 0]"])
        return f"{a}.at[jnp.arange({a}.shape[0]), {own_places(scope, a)}].{way}({update})"
    if form == "put":
        if a.rank < 2 or a.rows != 0:
            raise Unfit
        return f"jnp.put_along_axis({a}, jnp.argsort({a}, -1)[..., :1], {scope.scalar()}, -1, inplace=False)"  # noqa: E501
    if not scope.chance(4 * scope.setting.mixing):
        raise Unfit
    return f"jnp.zeros(3).at[jnp.abs(jnp.floor({a})).astype(int) % 3].{way}(1.0)"


@builds("gather", "scatter", "scatter-add", weight=2)
def _row_by_row(scope: Scope) -> str:
    a = scope.pick(low=2, where=lambda v: v.rows == 0)
    form = scope.rng.choice(
        [
            "jax.vmap(lambda r: r[jnp.argmax(r.reshape(r.shape[0], -1)[:, 0])])({a})",
            "jax.vmap(lambda r: r.at[jnp.argmin(r.reshape(r.shape[0], -1)[:, 0])].set({s}))({a})",
            "jax.vmap(lambda r: r.at[0].add(r[-1]))({a})",
            "jax.vmap(lambda r: jax.lax.dynamic_slice_in_dim(r, jnp.argmax(r.reshape(r.shape[0], -1)[:, 0]), {n}, 0))({a})",  # noqa: E501
        ]
    )
    return form.format(a=a, s=scope.scalar(), n=scope.size(1, a.shape[1]))
