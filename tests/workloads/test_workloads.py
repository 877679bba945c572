"""Every workload: what it builds, and that its step function is one that distributes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax import workloads


@pytest.fixture(scope="module", params=workloads.names())
def built(request):
    return request.param, workloads.get(request.param).build(True)


def loop(case):
    params, x = case.args
    step = jax.jit(case.fun)
    steps = [step(params, x[:, t]) for t in range(case.time_size)]
    return jax.tree.map(lambda *y: jnp.stack(y, axis=case.out_axes), *steps)


def test_loop_equals_vmap(built):
    _, case = built
    expected = loop(case)
    actual = jax.jit(jax.vmap(case.fun, case.in_axes, case.out_axes))(*case.args)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_time_is_the_second_axis(built):
    _, case = built
    batch, time = case.args[1].shape[:2]
    assert time == case.time_size
    for output in jax.tree.leaves(loop(case)):
        assert output.shape[:2] == (batch, time)


def test_outputs_vary_over_steps_and_are_finite(built):
    _, case = built
    for output in jax.tree.leaves(loop(case)):
        assert jnp.isfinite(output).all()
        assert (jnp.abs(output[:, 0] - output[:, 1]) > 1e-3).any()


def test_is_differentiable_in_params_and_input(built):
    _, case = built

    def total(params, x):
        outputs = jax.vmap(case.fun, case.in_axes, case.out_axes)(params, x)
        return sum(jnp.sum(output**2) for output in jax.tree.leaves(outputs))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(*case.args)
    assert jax.tree.structure(gradients) == jax.tree.structure(case.args)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert (gradients[1] != 0).any()


def test_is_the_same_in_every_build(built):
    name, case = built
    again = workloads.get(name).build(True)
    jax.tree.map(np.testing.assert_array_equal, case.args, again.args)


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("dense", [(2, 10, 64)]),
        ("mlp", [(2, 3, 8)]),
        ("layer_norms", [(2, 3, 8)]),
        ("conv_net", [(2, 3, 6, 6, 4)]),
        ("vit_block", [(2, 3, 4, 8)]),
        ("faster_rcnn_head", [(1, 3, 21), (1, 3, 80)]),
    ],
)
def test_output_shapes(name, shapes):
    outputs = jax.eval_shape(lambda: loop(workloads.get(name).build(True)))
    assert [output.shape for output in jax.tree.leaves(outputs)] == shapes


def test_dense_is_the_documentation_example():
    case = workloads.get("dense").build(False)
    assert case.args[1].shape == (32, 10, 16)
    assert loop(case).shape == (32, 10, 64)


def test_names_are_the_workloads_own_names():
    assert [workloads.get(name).name for name in workloads.names()] == list(workloads.names())


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'resnet'.*faster_rcnn_head, dense, mlp"):
        workloads.get("resnet")


@pytest.mark.parametrize("name", ["workload", "faster_rcnn"])
def test_modules_that_are_no_workload_are_unknown(name):
    with pytest.raises(ValueError, match=name):
        workloads.get(name)
