"""Lines as layers have them: many primitives at once."""

from __future__ import annotations

from ..scope import Scope, Unfit
from .registry import builds
from .shapes import free_axis

_FORMS = [
    "jax.nn.softmax({a}, {x})",
    "jax.nn.log_softmax({a}, {x})",
    "jax.nn.standardize({a}, {x})",
    "jax.nn.gelu({a}, approximate=False)",
    "jax.nn.one_hot(jnp.argmax({a}, {x}), {n})",
    "jnp.linalg.norm({a} + 0.1, axis={x})",
    "({a} - {a}.mean({x}, keepdims=True)) * jax.lax.rsqrt({a}.var({x}, keepdims=True) + 0.1)",
    "jnp.where(jax.random.bernoulli({k}, 0.5, {a}.shape), {a} * 2.0, 0.0)",
    "jax.image.resize({a}, {s}, 'linear')",
    "jnp.diff({a}, axis={x})",
    "jnp.interp({a}, jnp.array([-1.0, 0.0, 1.0]), jnp.array([0.0, 2.0, 1.0]))",
    "jnp.digitize({a}, jnp.array([-1.0, 0.0, 1.0]))",
    "jnp.convolve({a}.reshape(-1), jnp.ones(2), 'same')",
    "jnp.polyval(jnp.array([0.1, 0.5, 1.0]), {a})",
    "jnp.swapaxes({a}, 0, -1) @ jnp.ones(({a}.shape[0], {n}))",
    "jnp.trapezoid({a}, axis={x})",
    "jnp.cross({a}[..., :3], {a}[..., :3])",
    "{a} / {a}.shape[{r}]",
    "{a} * (2.0 if {a}.shape[{r}] == {b} else 1.0)",
]


@builds("layers", weight=1)
def _layer(scope: Scope) -> str:
    from .noise import _key_code

    a = scope.pick(low=1, high=3)
    form = scope.rng.choice(_FORMS)
    if "{r}" in form and not (a.rows is not None and scope.chance(3 * scope.setting.mixing)):
        raise Unfit
    if ("convolve" in form or "swapaxes" in form) and not scope.chance(2 * scope.setting.mixing):
        raise Unfit
    axis = free_axis(scope, a)
    shape = f"({', '.join(f'{a}.shape[{i}]' if i != axis else scope.size(2, 4) for i in range(a.rank))},)"  # noqa: E501
    return form.format(
        a=a,
        x=scope.number(axis),
        n=scope.size(1, 3),
        s=shape,
        k=_key_code(scope) if "{k}" in form else "",
        r=a.rows,
        b=scope.setting.batch,
    )
