"""A step of JAX's as operations of TensorFlow's, which NumPy stands in for here."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array

from tdjax.comparison.measuring.tensorflow import TensorFlowBuilding, _tensorflow
from tdjax.comparison.measuring.translating import translated
from tdjax.comparison.peers import PEERS, TensorFlowPeer
from tdjax.comparison.subjects.subject import subject

(PEER,) = (peer for peer in PEERS if isinstance(peer, TensorFlowPeer))


def in_numpy(**more):
    """Return what of `tensorflow` the steps here need, computed by NumPy."""
    same = ("add", "subtract", "multiply", "divide", "maximum", "negative", "exp", "tanh", "sqrt")
    return types.SimpleNamespace(
        **{name: getattr(np, name) for name in same},
        **{name: getattr(np, name) for name in ("transpose", "reshape", "matmul", "einsum")},
        broadcast_to=np.broadcast_to,
        constant=np.asarray,
        identity=lambda x: x,
        stop_gradient=lambda x: x,
        pow=np.power,
        cast=lambda x, dtype: np.asarray(x).astype(dtype),
        concat=np.concatenate,
        where=np.where,
        bool=bool,
        gather=lambda table, indices: table[indices],
        clip_by_value=np.clip,
        less=np.less,
        greater_equal=np.greater_equal,
        reduce_sum=lambda x, axes: x.sum(tuple(axes)),
        reduce_max=lambda x, axes: x.max(tuple(axes)),
        rsqrt=lambda x: 1 / np.sqrt(x),
        square=np.square,
        math=types.SimpleNamespace(**more),
    )


def dense(x, weights):
    return jax.nn.softmax(jnp.tanh(x @ weights + 1.0) ** 3)


def norm(x, weights):
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * weights[0, 0]


def attention(x, weights):
    scores = jnp.einsum("bqd,bkd->bqk", x, x[..., ::1])
    return jnp.concatenate([jnp.einsum("bqk,bkd->bdq", scores, x).swapaxes(1, 2), x], -1)[:, 1:]


@pytest.mark.parametrize(
    ("step", "shape"), [(dense, (2, 4)), (norm, (2, 3, 4)), (attention, (2, 3, 4))]
)
def test_a_translation_computes_the_same(step, shape):
    x, weights = array(*shape), array(4, 5)
    traced = jax.make_jaxpr(step)(x, weights)
    given = [np.asarray(x), np.asarray(weights)]
    (found,) = translated(in_numpy(), traced.jaxpr, traced.consts, given)
    np.testing.assert_allclose(found, step(x, weights), rtol=1e-5, atol=1e-6)


def test_rows_of_a_table_are_looked_up():
    table, indices = array(7, 3), np.array([[0, 6], [2, 2]])
    traced = jax.make_jaxpr(lambda table, i: table[i])(table, indices)
    (found,) = translated(in_numpy(), traced.jaxpr, traced.consts, [np.asarray(table), indices])
    np.testing.assert_array_equal(found, table[indices])


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2), (1, 1), "SAME"), "padding"),
    ],
)
def test_what_has_no_translation_is_named(step, named):
    x = array(2, 4)
    traced = jax.make_jaxpr(step)(x)
    with pytest.raises(NotImplementedError, match=named):
        translated(in_numpy(), traced.jaxpr, traced.consts, [np.asarray(x)])


def test_keras_on_another_library_is_refused(monkeypatch):
    keras = types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(ValueError, match="Keras computes with jax in this process"):
        _tensorflow()


@pytest.mark.parametrize(
    ("in_axes", "said"), [((1, 1), "takes one array over time"), ((None, 0), "time axes are 1")]
)
def test_a_step_that_keras_does_not_take_is_refused(in_axes, said):
    made = subject(lambda w, x: x * w.sum(), (array(2, 3, 4), array(2, 3, 4)), in_axes=in_axes)
    with pytest.raises(ValueError, match=said):
        TensorFlowBuilding(made, PEER, (made.arrays, []), "forward")


def test_it_runs_no_program_of_jax():
    made = subject(dense, (array(2, 3, 4), array(4, 5)), in_axes=(1, None))
    with pytest.raises(Exception, match="measured on attached CPUs alone"):
        jax.make_jaxpr(made.function(PEER, "forward"))(made.arrays, [])
