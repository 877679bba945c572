"""Lines that move values without looking at them."""

from __future__ import annotations

from ..scope import Scope, Unfit, Value
from .registry import builds


def free_axis(scope: Scope, a: Value) -> int:
    """Return an axis, mostly one that holds no rows."""
    others = [axis for axis in range(a.rank) if axis != a.rows]
    if a.rows is not None and (not others or scope.chance(scope.setting.mixing)):
        if not scope.chance(0.3 if not others else 1.0):
            raise Unfit
        return a.rows
    if not others:
        raise Unfit
    return scope.rng.choice(others)


def axis_code(scope: Scope, a: Value, axis: int) -> str:
    """Return code for an axis, counted from either end."""
    if scope.chance(0.3):
        return str(axis - a.rank)
    return scope.number(axis)


def sizes(scope: Scope, a: Value, entries: dict[int, str]) -> str:
    """Return code for a shape like that of a variable, with other entries for some axes."""
    return "(" + "".join(f"{entries.get(i) or f'{a}.shape[{i}]'}, " for i in range(a.rank)) + ")"


def per_axis(a: Value, entries: dict[int, str], neutral: str) -> str:
    """Return code for a tuple with one entry an axis."""
    return "(" + "".join(f"{entries.get(i, neutral)}, " for i in range(a.rank)) + ")"


@builds("broadcast_in_dim", weight=2)
def _broadcast(scope: Scope) -> str:
    a = scope.pick(low=0, high=3)
    if scope.chance(0.3):
        ones = scope.rng.choice(["jnp.ones", "jnp.zeros", "jnp.full"])
        shape = sizes(scope, a, {})
        fill = f", {scope.scalar()}" if ones == "jnp.full" else ""
        return f"{ones}({shape}{fill}) * {a}"
    new = scope.rng.randint(0, a.rank)
    size = scope.size(1, 3)
    shape = [f"{a}.shape[{i}]" for i in range(a.rank)]
    shape.insert(new, size)
    axes = [i for i in range(a.rank + 1) if i != new]
    return f"jax.lax.broadcast_in_dim({a}, ({', '.join(shape)},), {tuple(axes)})"


@builds("broadcast_in_dim", "iota")
def _made_of_sizes(scope: Scope) -> str:
    a = scope.pick(low=1, rows=True)
    form = scope.rng.choice(
        [
            "{a} * jnp.eye({n}, {m}).sum()",
            "{a} + jnp.ones({n}).sum()",
            "{a} * jnp.tri({n}).sum()",
            "{a} + jnp.linspace(0.0, 1.0, {n}).sum()",
            "{a} + jnp.hanning({n}).sum()",
        ]
    )
    return form.format(a=a, n=scope.size(2, 4), m=scope.size(2, 4))


@builds("iota", weight=2)
def _iota(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    if scope.chance(0.5):
        return f"{a} * jax.lax.broadcasted_iota(float, {sizes(scope, a, {})}, {axis})"
    after = ", ".join(["slice(None)"] + ["None"] * (a.rank - axis - 1))
    return f"{a} + jnp.arange({a}.shape[{axis}], dtype=float)[({after},)]"


@builds("reshape", weight=4)
def _reshape(scope: Scope) -> str:
    a = scope.pick(("float", "float", "float", "int"), low=1)
    rows = a.rows
    form = scope.rng.choice(["flat", "merge", "split", "group", "restore", "across"])
    if form == "flat":
        return f"{a}.reshape(-1)"
    if form == "merge" and a.rank > 1:
        axis = scope.rng.randrange(a.rank - 1)
        shape = [f"{a}.shape[{i}]" for i in range(a.rank)]
        shape[axis : axis + 2] = ["-1"]
        return f"{a}.reshape({', '.join(shape)})"
    if form == "split":
        axis = scope.rng.randrange(a.rank)
        parts = scope.rng.choice([2, 3])
        if a.shape[axis] % parts:
            raise Unfit
        shape = [f"{a}.shape[{i}]" for i in range(a.rank)]
        shape[axis : axis + 1] = scope.rng.choice([["-1", str(parts)], [str(parts), "-1"]])
        if axis == rows and scope.chance(0.5):
            raise Unfit
        return f"{a}.reshape({', '.join(shape)})"
    if form == "group" and rows is not None and a.rank > 1:
        return f"{a}.reshape(-1, {scope.size(1, 4)})"
    if form == "restore":
        # A value with merged rows comes apart again.
        batch = scope.setting.batch
        if rows is None or a.shape[rows] == batch or a.shape[rows] % batch:
            raise Unfit
        inner = a.shape[rows] // batch
        shape = [f"{a}.shape[{i}]" for i in range(a.rank)]
        shape[rows : rows + 1] = scope.rng.choice([["-1", str(inner)], [str(inner), "-1"]])
        return f"{a}.reshape({', '.join(shape)})"
    if form == "across" and a.rank > 1 and scope.chance(scope.setting.mixing * 2):
        return f"{a}.reshape({a}.shape[1], {a}.shape[0], *{a}.shape[2:])"
    return f"{a}.ravel()[None]"


@builds("expand_dims", "squeeze")
def _new_axis(scope: Scope) -> str:
    a = scope.pick(high=3)
    axis = scope.rng.randint(0, a.rank)
    if scope.chance(0.5):
        return f"jnp.squeeze(jnp.expand_dims({a}, {axis}) * 2.0, {axis})"
    return f"jnp.expand_dims({a}, {scope.number(axis)})"


@builds("squeeze")
def _squeeze(scope: Scope) -> str:
    a = scope.pick(low=1, where=lambda v: 1 in v.shape)
    return f"{a}.squeeze({scope.number(a.shape.index(1))})"


@builds("transpose", weight=2)
def _transpose(scope: Scope) -> str:
    a = scope.pick(low=2)
    order = scope.rng.sample(range(a.rank), a.rank)
    return f"{a}.transpose({', '.join(map(scope.number, order))})"


@builds("rev")
def _rev(scope: Scope) -> str:
    a = scope.pick(low=1)
    return f"jnp.flip({a}, {axis_code(scope, a, free_axis(scope, a))})"


@builds("slice", weight=4)
def _slice(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    size = a.shape[axis]
    before = ":, " * axis
    form = scope.rng.choice(["{n}:", ":{m}", "::{s}", "{n}::{s}", "-{m}:", "{i}", "roll"])
    if form == "roll":
        return f"jnp.roll({a}, {scope.size(1, 2)}, {axis_code(scope, a, axis)})"
    if form == "{n}::{s}" and scope.chance(0.5):
        # A step that is longer than the axis takes one element, whatever it is.
        return f"{a}[{before}{scope.size(0, size - 1)}::{scope.size(1, 4)} + 100]"
    text = form.format(
        n=scope.size(0, max(0, size - 2)),
        m=scope.size(1, size),
        s=scope.size(1, 3),
        i=scope.size(0, size - 1),
    )
    return f"{a}[{before}{text}]"


@builds("slice")
def _slice_in_dim(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    size = a.shape[axis]
    limit = scope.size(1, size)
    return (
        f"jax.lax.slice_in_dim({a}, {scope.number(0)}, {limit}, {scope.size(1, 3)}, "
        f"axis={scope.number(axis)})"
    )


@builds("dynamic_slice", weight=2)
def _dynamic_slice(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    start = _place(scope, a, axis)
    size = scope.size(1, a.shape[axis])
    return f"jax.lax.dynamic_slice_in_dim({a}, {start}, {size}, {axis})"


def _place(scope: Scope, a: Value, axis: int) -> str:
    form = scope.rng.choice(["shared", "number", "step", "number", "data"])
    if scope.closed or form == "number":
        return f"jnp.asarray({scope.size(0, a.shape[axis] - 1)})"
    if form == "step":
        return str(scope.step_value((), "int", a.shape[axis]))
    if form == "data" and scope.chance(2 * scope.setting.mixing):
        return f"jnp.argmax({a}.reshape(-1)) % {a.shape[axis]}"
    return str(scope.shared((), "int", a.shape[axis]))


@builds("dynamic_update_slice", weight=2)
def _dynamic_update(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    piece = (
        f"jax.lax.slice_in_dim({scope.another(a)}, 0, {scope.size(1, a.shape[axis])}, 1, {axis})"
    )
    return (
        f"jax.lax.dynamic_update_slice_in_dim({a}, {piece} * 0.5, {_place(scope, a, axis)}, {axis})"
    )


@builds("concatenate", weight=2)
def _concatenate(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    parts = [str(a), str(scope.another(a))]
    if scope.chance(0.3):
        shape = sizes(scope, a, {axis: "1"})
        parts.append(scope.rng.choice([f"jnp.zeros({shape})", f"jnp.ones({shape})"]))
    return f"jnp.concatenate([{', '.join(parts)}], {axis_code(scope, a, axis)})"


@builds("stack", "unstack")
def _stack(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    if scope.chance(0.4):
        axis = free_axis(scope, a)
        return f"jax.lax.unstack({a}, {axis})[0]"
    axis = scope.number(scope.rng.randint(0, a.rank))
    return f"jax.lax.stack([{a}, {scope.another(a)} * 2.0], {axis})"


@builds("split")
def _split(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    parts = scope.rng.choice([2, 3])
    if a.shape[axis] % parts:
        raise Unfit
    if scope.chance(0.5):
        return f"jnp.split({a}, {scope.number(parts)}, {axis})[{scope.rng.randrange(parts)}]"
    half = a.shape[axis] // 2
    return f"jnp.split({a}, [{scope.number(half)}], {axis})[{scope.rng.randrange(2)}]"


@builds("tile", weight=2)
def _tile(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    axis = free_axis(scope, a)
    return f"jnp.tile({a}, {per_axis(a, {axis: scope.size(1, 3)}, '1')})"


@builds("tile", "broadcast_in_dim", "gather")
def _repeat(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    axis = free_axis(scope, a)
    if scope.chance(0.3):
        total = 2 * a.shape[axis]
        counts = [1] * (a.shape[axis] - 1) + [a.shape[axis] + 1]
        repeats = f"jnp.array({counts}), axis={axis}, total_repeat_length={scope.number(total)}"
        return f"jnp.repeat({a}, {repeats})"
    return f"jnp.repeat({a}, {scope.size(1, 3)}, {axis})"


@builds("pad", weight=3)
def _pad(scope: Scope) -> str:
    a = scope.pick(low=1)
    axis = free_axis(scope, a)
    if scope.chance(0.5):
        low, high, inner = scope.size(0, 2), scope.size(0, 2), scope.size(0, 2)
        entry = f"({low}, {high}, {inner})"
        fill = scope.rng.choice(["0.0", scope.scalar(), f"{a}.reshape(-1)[0]"])
        if fill.startswith(str(a)) and not scope.chance(scope.setting.mixing):
            fill = "0.0"
        return f"jax.lax.pad({a}, jnp.asarray({fill}, float), {per_axis(a, {axis: entry}, '(0, 0, 0)')})"  # noqa: E501
    mode = scope.rng.choice(["constant", "edge", "reflect", "wrap"])
    entry = f"({scope.size(0, 2)}, {scope.size(0, 2)})"
    return f"jnp.pad({a}, {per_axis(a, {axis: entry}, '(0, 0)')}, mode={mode!r})"
