"""Every NNX layer, wrapped: values, gradients and noise are those of the plain loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax_cases import assert_close
from nnx_layers import CASES, LENGTHS, TIME

import tdjax
from tdjax.nnx import TimeDistributed

STRATEGIES = ("vmap", "fold", "map", "unroll", tdjax.Fold(chunk_size=4))


def step(case, inputs, t):
    """Return what step t sees of the inputs."""
    axes = case.options.get("in_axes", (1,) * len(inputs))
    return jax.tree.map(
        lambda axis, part: jax.tree.map(lambda x: x if axis is None else x[:, t], part),
        axes,
        inputs,
        is_leaf=lambda axis: axis is None,
    )


def loop(case, wrapper, inputs):
    """Call the wrapped layer on every step, in Python, each step with its own keys."""
    mask = jnp.arange(TIME) < LENGTHS[:, None]
    outputs = []
    for t in range(TIME):
        layer = wrapper.layer
        if isinstance(layer, nnx.Module):
            layer = nnx.clone(layer)
            for _, key in nnx.to_flat_state(nnx.state(layer, nnx.RngKey)):
                key.set_value(jax.random.fold_in(key.get_value(), t))
        function = getattr(layer, wrapper.method or "__call__")
        extra = {"mask": mask[:, t]} if case.masked else {}
        outputs.append(function(*step(case, inputs, t), **case.kwargs, **extra))
    outputs = jax.tree.map(lambda *y: jnp.stack(y, 1), *outputs)
    return jax.tree.map(lambda y: y * mask[..., None], outputs) if case.masked else outputs


def wrapped(case, wrapper, inputs):
    lengths = LENGTHS if case.masked else None
    return wrapper(*inputs, **case.kwargs, seq_lengths=lengths)


def value_and_gradients(case, run, wrapper, inputs):
    """Return the outputs, and their gradients by the module and by the inputs that have any."""
    leaves, tree = jax.tree.flatten(inputs)
    floats = {i: x for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)}

    def loss(wrapper, floats):
        merged = [floats.get(index, x) for index, x in enumerate(leaves)]
        outputs = run(case, wrapper, jax.tree.unflatten(tree, merged))
        weigh = (jnp.vdot(y, jnp.cos(jnp.arange(y.size))) for y in jax.tree.leaves(outputs))
        return sum(weigh), outputs

    (_, outputs), gradients = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
        wrapper, floats
    )
    return outputs, *gradients


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_the_loop(case):
    plain, auto, *wrappers = (
        TimeDistributed(case.make(), strategy=strategy, **case.options)
        for strategy in ("vmap", "auto", *STRATEGIES)
    )

    @nnx.jit
    def everything(plain, auto, wrappers, inputs):
        expected = value_and_gradients(case, loop, plain, inputs)
        actual = {
            str(strategy): value_and_gradients(case, wrapped, wrapper, inputs)
            for strategy, wrapper in zip(STRATEGIES, wrappers, strict=True)
        }
        return expected, actual, wrapped(case, auto, inputs)

    expected, actual, chosen = everything(plain, auto, wrappers, case.inputs)
    assert_close({"auto": chosen}, {"auto": expected[0]}, atol=3e-6)
    for strategy, found in actual.items():
        assert_close({strategy: found}, {strategy: expected}, atol=3e-6)
