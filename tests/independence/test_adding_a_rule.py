"""A rule for a primitive takes one line; the proof, the costs and packed loops then know it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from oracle import assert_same, loop
from probing import refusal

import tdjax
from tdjax.core.call import trace
from tdjax.costs.reading import work_of
from tdjax.independence.rules.elementwise import elementwise
from tdjax.independence.rules.rule import Cost, known_primitives, register, unregister

X = array(4, 3, 5)
toy_p = Primitive("toy_cube")
toy_p.def_impl(lambda x: x * x * x)
toy_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(toy_p, mlir.lower_fun(lambda x: x * x * x, multiple_results=False))
ad.defjvp(toy_p, lambda g, x: g * 3.0 * x * x)
batching.defvectorized(toy_p)


def step(x):
    return toy_p.bind(jnp.sin(x)) @ array(5, 5, seed=1)


@pytest.fixture
def known():
    register("toy_cube", rows=elementwise, cost=Cost.SLOW)
    yield
    unregister("toy_cube")


def test_without_its_line_it_proves_nothing():
    assert "toy_cube" not in known_primitives()
    assert "`toy_cube`" in refusal(step, X) and "has no rule" in refusal(step, X)


@pytest.mark.parametrize("strategy", ["fold", tdjax.Fold(chunk_size=5), "auto"], ids=str)
def test_with_its_line_a_fold_is_the_loop(known, strategy):
    assert refusal(step, X) is None

    def total(run, x):
        return (run(x) ** 2).sum()

    run = tdjax.time_distributed(step, strategy=strategy)
    ours = jax.value_and_grad(lambda x: total(run, x))(X)
    assert_same(ours, jax.value_and_grad(lambda x: total(lambda x: loop(step, (x,)), x))(X))


def test_packed_steps_are_differentiated(known):
    lengths = jnp.array([3, 1, 0, 2])
    real = (np.arange(3) < np.asarray(lengths)[:, None])[..., None]
    run = tdjax.time_distributed(step, strategy=tdjax.Packed(chunk_size=2))
    ours = jax.grad(lambda x: (run(x, seq_lengths=lengths) ** 2).sum())(X)
    theirs = jax.grad(lambda x: (jnp.where(real, loop(step, (x,)), 0.0) ** 2).sum())(X)
    assert_same(ours, theirs)


def test_its_cost_is_counted():
    call = tdjax.time_distributed(step).bind((X,), {}, None, None)

    def transcendentals():
        return work_of(trace(call, 4).jaxpr, 4, call.has_rows()).transcendentals

    before = transcendentals()
    register("toy_cube", cost=Cost.SLOW)
    try:
        assert transcendentals() == 2 * before  # beside the sine
    finally:
        unregister("toy_cube")


def test_a_name_is_taken_once(known):
    with pytest.raises(ValueError, match="toy_cube: known already"):
        register("toy_cube", rows=elementwise)
