"""The scales of Flax's fp8 layers: their gradients are new values, which steps add up in order.

The loop adds them up with the addition of their type: the sum for float32, the maximum for fm32.
A strategy gives that, or refuses.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import fp8_ops
from flax_cases import Holder
from oracle import random_like

import tdjax
from tdjax.linen import TimeDistributed

COLLECTION = fp8_ops.OVERWRITE_WITH_GRADIENT
BATCH, TIME, FEATURES = 2, 3, 16
X = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)), jnp.float32)
OPERATIONS = ("Fp8DotGeneralOp", "Fp8DirectDotGeneralOp", "NANOOFp8DotGeneralOp")
ONE_BY_ONE = ("map", "unroll", tdjax.Vmap(chunk_size=1, remat=True), "auto")
TOGETHER = ("vmap", tdjax.Vmap(chunk_size=2), tdjax.Vmap(chunk_size=3))
FOLDS = ("fold", tdjax.Fold(chunk_size=4))
MASK = np.array([[1, 1, 0], [1, 0, 0]], bool)

pytestmark = pytest.mark.filterwarnings("ignore:The Fp8DotGeneralOp is deprecated")


def layer(operation="Fp8DirectDotGeneralOp"):
    return nn.Dense(8, dot_general_cls=getattr(fp8_ops, operation))


def variables(operation="Fp8DirectDotGeneralOp"):
    made = TimeDistributed(layer(operation)).init(jax.random.key(0), X)
    # Scales that are not 1, so that it shows how often they are counted.
    scales = jax.tree.map(lambda leaf: leaf + 0.5, made[COLLECTION])
    return {**made, COLLECTION: scales}


def gradients(run, variables, maximum):
    """Return the gradients of all variables, with scales that add up by sums or as maxima."""
    return all_gradients({"run": run}, variables, maximum)["run"]


def all_gradients(runs, variables, maximum):
    """Return the gradients of several functions, from one program."""

    def convert(tree, dtype):
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, dtype), tree)

    @jax.jit
    def everything(variables):
        if maximum:
            scales = convert(variables[COLLECTION], fp8_ops.fm32)
            variables = {**variables, COLLECTION: scales}
        return {name: derive(run, variables) for name, run in runs.items()}

    def derive(run, variables):
        output, pull = jax.vjp(run, variables)
        found = pull(random_like(output, 0))[0]
        return output, {**found, COLLECTION: convert(found[COLLECTION], jnp.float32)}

    return everything(variables)


def loop(operation, steps=range(TIME)):
    def run(variables):
        step = Holder(layer(operation))
        outputs = [
            step.apply(variables, X[:, t]) if t in steps else jnp.zeros((BATCH, 8))
            for t in range(TIME)
        ]
        return jnp.stack(outputs, 1)

    return run


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_scales_add_up_over_steps(operation):
    runs = {"loop": loop(operation)}
    for strategy in (*ONE_BY_ONE, *TOGETHER):
        wrapped = TimeDistributed(layer(operation), strategy=strategy)
        for options in ({}, {"mutable": ["intermediates"]}):

            def run(given, wrapped=wrapped, options=options):
                output = wrapped.apply(given, X, **options)
                return output[0] if options else output

            runs[f"{strategy} {options}"] = run
    found = all_gradients(runs, variables(operation), False)
    for run in found:
        assert_close(found[run], found["loop"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_type_of_maxima_takes_the_maximum_over_steps(operation):
    given = variables(operation)
    expected = gradients(loop(operation), given, True)
    assert not np.allclose(
        expected[1][COLLECTION]["layer"][f"{operation}_0"]["input_scale"],
        gradients(loop(operation), given, False)[1][COLLECTION]["layer"][f"{operation}_0"][
            "input_scale"
        ],
    )
    wrappers = [TimeDistributed(layer(operation), strategy=strategy) for strategy in ONE_BY_ONE]
    runs = {str(w.strategy): lambda v, w=w: w.apply(v, X) for w in wrappers}
    for found in all_gradients(runs, given, True).values():
        assert_close(found, expected)
    for strategy in TOGETHER:
        wrapped = TimeDistributed(layer(operation), strategy=strategy)
        with pytest.raises(tdjax.StrategyError, match=r"fp8_meta32.* an addition of its own"):
            gradients(lambda v, w=wrapped: w.apply(v, X), given, True)


@pytest.mark.parametrize("maximum", [False, True], ids=["sums", "maxima"])
def test_a_fold_refuses_scales_of_all_rows(maximum):
    for strategy in FOLDS:
        wrapped = TimeDistributed(layer(), strategy=strategy)
        with pytest.raises(tdjax.StrategyError, match=r"reduce_max|fp8_meta32"):
            gradients(lambda v, w=wrapped: w.apply(v, X), variables(), maximum)


def test_masked_steps_leave_scales_alone():
    """A step with a real row counts, and shows its padding to the scales, which mix rows."""
    given = variables()
    _, expected = gradients(
        lambda v: loop("Fp8DirectDotGeneralOp", (0, 1))(v) * MASK[..., None], given, False
    )
    ways = "vmap", "map", tdjax.Vmap(chunk_size=2), "auto"
    wrappers = [TimeDistributed(layer(), strategy=strategy) for strategy in ways]
    runs = {str(w.strategy): lambda v, w=w: w.apply(v, X, mask=MASK) for w in wrappers}
    for _, found in all_gradients(runs, given, False).values():
        assert_close(found, expected)


def test_maxima_have_no_gradients_with_a_mask():
    wrapped = TimeDistributed(layer(), strategy="map")
    with pytest.raises(tdjax.StrategyError, match=r"has no gradients with a mask.*fp8_meta32"):
        gradients(lambda v: wrapped.apply(v, X, mask=MASK), variables(), True)


@pytest.mark.parametrize("strategy", ["vmap", "map", "auto"])
def test_a_function_that_takes_its_variables(strategy):
    """Their names say what they are, whichever function they are given to."""
    given = variables()
    alone = {name: part["layer"] for name, part in given.items()}

    def step(x, variables):
        return layer().apply(variables, x)

    wrapped = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)

    def plain(alone):
        return jnp.stack([step(X[:, t], alone) for t in range(TIME)], 1)

    expected = gradients(plain, alone, False)
    assert_close(gradients(lambda v: wrapped(X, v), alone, False), expected)


def test_a_rule_for_maxima_is_not_folded():
    """A mean in the type of maxima: the loop takes the largest of the steps' means."""

    @jax.custom_vjp
    def watched(x, scale):
        return x

    def backward(x, g):
        new = jnp.mean(jnp.abs(x)).reshape(1)
        return g, jax.lax.convert_element_type(new, fp8_ops.fm32)

    watched.defvjp(lambda x, scale: (x, x), backward)
    scale = jnp.ones(1)

    def run(x):
        given = jax.lax.convert_element_type(scale, fp8_ops.fm32)
        return tdjax.time_distributed(watched, in_axes=(1, None), strategy="fold")(x, given)

    with pytest.raises(tdjax.StrategyError, match="derivative rule of its own for fp8_meta32"):
        jax.jit(run)(X)
