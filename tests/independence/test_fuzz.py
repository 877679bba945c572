"""Random programs: whatever is proven must be true, and a fair share must be proven.

True means: when row j of the input changes, only row j of the output does, for batches of two
sizes; and a fold gives what the loop gives.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import assert_same, loop
from probing import refusal

import tdjax

FEATURES = 4
TABLE = array(FEATURES, FEATURES, seed=7)

# Every operation takes and gives (batch, FEATURES).
SEPARATE = {
    "sin": jnp.sin,
    "scale": lambda x: x * 1.5 - 0.25,
    "matmul": lambda x: x @ TABLE,
    "relu": jax.nn.relu,
    "softmax": lambda x: jax.nn.softmax(x, -1),
    "centre_features": lambda x: x - x.mean(-1, keepdims=True),
    "sort": lambda x: jnp.sort(x, -1),
    "flip": lambda x: jnp.flip(x, -1),
    "roll": lambda x: jnp.roll(x, 1, -1),
    "cumsum": lambda x: jnp.cumsum(x, -1),
    "columns": lambda x: x[:, jnp.array([3, 1, 1, 0])],
    "own_places": lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1),
    "lookup": lambda x: TABLE[jnp.argmax(x, -1)],
    "transpose_twice": lambda x: jnp.tanh(x.T).T,
    "merge": lambda x: jnp.abs(x.reshape(-1)).reshape(-1, FEATURES),
    "regroup": lambda x: jnp.repeat(x.reshape(-1, 2).sum(-1).reshape(-1, 2), 2, -1),
    "join": lambda x: jnp.concatenate([x[:, 2:], x[:, :2]], -1),
    "pad": lambda x: jnp.pad(x, ((0, 0), (2, 0)))[:, :FEATURES],
    "outer_of_a_row": lambda x: jnp.einsum("bi,bj->bij", x, x).sum(1),
    "scan": lambda x: jax.lax.scan(lambda c, y: (c * 0.5 + y, c), x[:, 0], x.T)[1].T,
    "loop": lambda x: jax.lax.fori_loop(0, 2, lambda _, y: y * 0.5 + x, x),
    "jit": lambda x: jax.jit(jnp.cos)(x),
    "remat": lambda x: jax.checkpoint(jnp.tanh)(x),
    "map_rows": lambda x: jax.lax.map(lambda row: row / (1 + jnp.abs(row).sum()), x),
    "place": lambda x: x.at[:, 1].set(x[:, 0]),
}
MIXING = {
    "flip_rows": lambda x: jnp.flip(x, 0),
    "centre_rows": lambda x: x - x.mean(0, keepdims=True),
    "reshape_across": lambda x: x.reshape(FEATURES, -1).T,
    "reshape_transposed": lambda x: x.T.reshape(-1, FEATURES),
    "gram": lambda x: x @ (x.T @ x),
    "number": lambda x: x + jnp.arange(x.shape[0], dtype=x.dtype)[:, None],
    "batch_size": lambda x: x / x.shape[0],
    "cumsum_rows": lambda x: jnp.cumsum(x, 0),
    "sort_merged": lambda x: jnp.sort(x.reshape(-1)).reshape(-1, FEATURES),
    "roll_merged": lambda x: jnp.roll(x.reshape(-1), 1).reshape(-1, FEATURES),
    "first_row": lambda x: x + x[:1],
}
OPERATIONS = SEPARATE | MIXING
names = st.lists(
    st.one_of(st.sampled_from(sorted(SEPARATE)), st.sampled_from(sorted(OPERATIONS))),
    min_size=1,
    max_size=5,
)
combine = st.sampled_from(["chain", "sum", "product", "branches"])


def program(chain, how):
    """Return the function that applies the operations one after the other, or joins two halves."""

    def run(names, x):
        for name in names:
            x = OPERATIONS[name](x)
        return x

    def fun(x):
        half = len(chain) // 2
        if how == "chain":
            return run(chain, x)
        if how == "sum":
            return run(chain[:half], x) + run(chain[half:], x)
        if how == "product":
            return jnp.einsum("bi,bi->bi", run(chain[:half], x), run(chain[half:], x))
        both = [lambda y: run(chain[:half], y), lambda y: run(chain[half:], y)]
        return jax.lax.switch(jnp.int32(1), both, x)

    return fun


def keeps_rows_apart(fun, batch):
    """Say whether changing row j leaves all other rows of the output as they were."""
    rng = np.random.default_rng(batch)
    x, changed = rng.normal(size=(2, batch, FEATURES)).astype(np.float32)
    fun = jax.jit(fun)
    before = np.asarray(fun(x))
    for row in range(batch):
        others = np.arange(batch) != row
        after = np.asarray(fun(np.where(others[:, None], x, changed)))
        if not np.allclose(before[others], after[others], rtol=1e-5, atol=1e-6):
            return False
    return True


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(chain=names, how=combine)
def test_what_is_proven_is_true(chain, how):
    fun = program(chain, how)
    x = array(3, 2, FEATURES, seed=11)
    if refusal(fun, x) is not None:
        return
    assert keeps_rows_apart(fun, 3) and keeps_rows_apart(fun, 5)
    folded = tdjax.time_distributed(fun, strategy="fold")
    assert_same(folded(x), loop(fun, (x,)), scale=10)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(chain=st.lists(st.sampled_from(sorted(SEPARATE)), min_size=1, max_size=5), how=combine)
def test_what_keeps_rows_apart_is_proven(chain, how):
    assert refusal(program(chain, how), array(3, 2, FEATURES)) is None


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_rows_is_refused_alone_and_amid_others(name):
    x = array(3, 2, FEATURES)
    assert refusal(MIXING[name], x) is not None
    for how in ("chain", "sum", "branches"):
        assert refusal(program(["sin", name, "merge", "softmax"], how), x) is not None
