"""Which values differ between steps: also through loops and branches that steps decide."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tdjax.independence.differing import follow_steps

TURNS = {
    "nothing": (lambda x, w: lax.while_loop(lambda c: c < w, lambda c: c + 1, 0.0), False),
    "limit": (lambda x, w: lax.while_loop(lambda c: c < x, lambda c: c + 1, 0.0), True),
    "start": (lambda x, w: lax.while_loop(lambda c: c < w, lambda c: c + 1, x), True),
    "added": (lambda x, w: lax.while_loop(lambda c: c < w, lambda c: c + x, 0.0), True),
    "limit carried": (
        lambda x, w: lax.while_loop(lambda c: c[0] < c[1], lambda c: (c[0] + 1, c[1]), (0.0, x))[0],
        True,
    ),
    "scanned": (lambda x, w: lax.scan(lambda c, _: (c * w, None), x, length=3)[0], True),
    "scanned late": (
        lambda x, w: lax.scan(lambda c, _: ((x, c[0], c[1]), c[2]), (w, w, w), length=4)[1][-1],
        True,
    ),
    "beside a scan": (lambda x, w: lax.scan(lambda c, _: ((c[0] + x, c[1]), c[1]), (w, w),
                                            length=3)[1][0], False),
    "chosen": (lambda x, w: lax.cond(x > 0, jnp.sin, jnp.cos, w), True),
    "not chosen": (lambda x, w: lax.cond(w > 0, jnp.sin, jnp.cos, w), False),
    "called": (lambda x, w: jax.jit(lambda a, b: (a + 1, b + 1))(x, w)[1], False),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_what_differs(name):
    step, expected = TURNS[name]
    program = jax.make_jaxpr(step)(1.0, 2.0)
    assert follow_steps(program.jaxpr, [False] * len(program.consts) + [True, False]) == [expected]


def test_levels_are_followed_and_what_is_said_counts():
    program = jax.make_jaxpr(lambda a, b: (jnp.sin(a) * b, jnp.cos(b), a + 1.0))(1.0, 2.0)

    def look(eqn, levels):
        return [0] if eqn.primitive.name == "cos" else None

    assert follow_steps(program.jaxpr, [1, 2], look) == [2, 0, 1]
