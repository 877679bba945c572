"""Built-in workloads in another dtype."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from tdjax import workloads
from tdjax.comparison.subjects import suite
from tdjax.strategies import parse


def products(jaxpr):
    """Count the dtypes of matrix products and convolutions, in inner programs as well."""
    found = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            variables = (*equation.invars, *equation.outvars)
            found[tuple(str(variable.aval.dtype) for variable in variables)] += 1
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


@pytest.mark.parametrize("name", workloads.names())
def test_a_workload_computes_in_the_dtype_that_is_asked_for(name):
    made, _ = suite.workload(name, None, quick=True, dtype="bfloat16").make()
    assert made.description.endswith(", in bfloat16")
    assert {array.dtype.name for array in made.arrays} == {"bfloat16"}
    vmap = parse("vmap")
    cotangents = made.cotangents(vmap, "grad")
    program = jax.make_jaxpr(made.function(vmap, "grad"))(made.arrays, cotangents)
    assert {str(aval.dtype) for aval in program.out_avals} == {"bfloat16"}
    counted = products(program.jaxpr)
    assert set(counted) <= {("bfloat16",) * 3}
    assert counted or name == "layer_norms"


def test_only_floating_point_arrays_are_cast(monkeypatch):
    key = jax.random.key(0)
    args = ({"table": jnp.ones((7, 2)), "key": key}, jnp.zeros((2, 3), jnp.int32))
    case = workloads.Case(lambda params, x: params["table"][x], args, (None, 1), 3)
    found = workloads.Workload("words", "Words", "A table of words.", lambda quick: case)
    monkeypatch.setattr(workloads, "get", lambda name: found)
    made, _ = suite.workload("words", None, quick=False, dtype="float16").make()
    by_shape = {array.shape: array.dtype for array in made.arrays}
    assert by_shape[7, 2] == jnp.float16 and by_shape[2, 3] == jnp.int32
    assert by_shape[jax.random.key_data(key).shape] == jnp.uint32
    assert made.description == "A table of words, in float16"
    same, _ = suite.workload("words", None, quick=False, dtype="float32").make()
    assert same.description == "A table of words."
