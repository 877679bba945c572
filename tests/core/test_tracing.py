"""How a step is traced: what the trace holds, and for how long."""

import jax
import numpy as np
import pytest

import tdjax
from tdjax.core.call import trace

X = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32)


def call_of(step, *args):
    return tdjax.time_distributed(step).bind(args, {}, None, None)


def test_a_trace_tells_constants_from_inputs():
    weights = jax.device_put(W)
    program = trace(call_of(lambda x: {"y": x @ weights, "none": None}, X), 7)
    assert [const is weights for const in program.consts] == [True]
    assert [v.aval.shape for v in program.jaxpr.constvars] == [(5, 5)]
    assert [v.aval.shape for v in program.jaxpr.invars] == [(7, 5)]
    assert [aval.shape for aval in program.out_avals] == [(7, 5)]
    (output,) = program(program.consts, [np.ones((7, 5), np.float32)])
    np.testing.assert_allclose(output, np.ones((7, 5)) @ W, rtol=1e-5, atol=1e-5)


def test_a_trace_names_the_function_and_its_arguments():
    def mixes(left, right):
        return left + right["down"]

    program = trace(call_of(mixes, X, {"down": X}), 4)
    told = program.jaxpr.bare.debug_info
    assert told.func_src_info.startswith("mixes at ") and "test_tracing.py" in told.func_src_info
    assert told.arg_names == ("left", "right['down']")


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map", "auto", "Fold(4)"])
def test_a_step_that_closes_over_a_tracer_leaks_nothing(strategy):
    def run(weights, x):
        return tdjax.time_distributed(lambda row: row @ weights, strategy=strategy)(x)

    with jax.checking_leaks():
        np.testing.assert_allclose(jax.jit(run)(W, X), X @ W, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["fold", "auto"])
def test_a_number_that_changes_in_place_is_that_of_the_call(strategy):
    scale, other = np.array(2, np.float32), np.array(2, np.float32)
    scaled = tdjax.time_distributed(lambda x: x * scale, strategy=strategy)
    same = tdjax.time_distributed(lambda x: x * other, strategy=strategy)
    np.testing.assert_array_equal(scaled(X), X * 2)
    scale[...] = 3
    np.testing.assert_array_equal(same(X), X * 2)
    np.testing.assert_array_equal(scaled(X), X * np.float32(3))


def test_jax_can_check_what_is_traced():
    jax.config.update("jax_enable_checks", True)
    try:
        added = tdjax.time_distributed(lambda *given: given[0] + given[1], strategy="fold")
        np.testing.assert_array_equal(added(X, X), X + X)
    finally:
        jax.config.update("jax_enable_checks", False)
