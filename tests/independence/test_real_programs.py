"""Real programs: what is proven of them is true, in values and gradients, and little is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from oracle import assert_same, random_like, take_step
from partition.meshes import make
from probing import refusal
from real_programs import PROGRAMS, PROVEN, TIME

import tdjax

FOLDED = [name for name, each in PROGRAMS.items() if each.expected == PROVEN]
REFUSED = [name for name in PROGRAMS if name not in FOLDED]
MASK = jnp.arange(TIME) < jnp.array([4, 1, 0, 3, 2, 4])[:, None]
MASKED = (
    "masked_attention",
    "cache_written_at_each_rows_place",
    "experts_that_choose",
    "top_k_sampling",
    "recurrent_net_of_flax",
    "beam_search_step",
    "sampled_between_pixels",
    "normal_density_with_each_rows_covariance",
    "messages_along_listed_edges",
    "masked_prediction",
)
SPREAD = (*MASKED, "vector_quantization", "selective_scan", "kalman_filter")


@pytest.fixture(autouse=True)
def strict_promotion():
    """Let programs promote types and ranks as users' programs do."""
    yield


def on_host(tree):
    """Return arrays as NumPy's, of which it takes no compiling to take a step."""

    def host(leaf):
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)

    return jax.tree.map(host, tree)


def differentiable(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def with_gradients(fun, args):
    """Return a compiled function of arguments and cotangents that gives outputs and gradients."""
    tree = jax.tree.structure(args)
    moves = [differentiable(leaf) for leaf in jax.tree.leaves(args)]

    @jax.jit
    def run(args, cotangents):
        leaves = jax.tree.leaves(args)

        def of(moving):
            moving = iter(moving)
            merged = [
                next(moving) if yes else leaf for yes, leaf in zip(moves, leaves, strict=True)
            ]
            output = fun(*jax.tree.unflatten(tree, merged))
            return [leaf for leaf in jax.tree.leaves(output) if differentiable(leaf)], output

        moving = [leaf for yes, leaf in zip(moves, leaves, strict=True) if yes]
        _, pullback, output = jax.vjp(of, moving, has_aux=True)
        return output, pullback(cotangents)[0]

    return run


def stacked_cotangents(program, mask):
    """Return random cotangents of a program's outputs, time at 1: zero where the mask is False."""
    step = jax.eval_shape(program.fun, *take_step(program.args, program.in_axes, 0))
    cotangents = []
    for seed, leaf in enumerate(filter(differentiable, jax.tree.leaves(step))):
        shape = (leaf.shape[0], TIME, *leaf.shape[1:])
        value = np.array(random_like(jax.ShapeDtypeStruct(shape, leaf.dtype), seed))
        if mask is not None:
            value[~np.asarray(mask)] = 0
        cotangents.append(value)
    return cotangents


def looped(program, cotangents, mask):
    """Return what the loop gives: one compiled step, called for each, its gradients added up."""
    args = on_host(program.args)
    run = with_gradients(program.fun, take_step(program.args, program.in_axes, 0))
    results = [
        jax.device_get(
            run(take_step(args, program.in_axes, step), [part[:, step] for part in cotangents])
        )
        for step in range(TIME)
    ]
    outputs, gradients = zip(*results, strict=True)
    axes = [
        axis
        for axis, arg in zip(program.in_axes, program.args, strict=True)
        for leaf in jax.tree.leaves(arg)
        if differentiable(leaf)
    ]
    added = [
        np.sum(parts, 0) if axis is None else np.stack(parts, axis)
        for axis, *parts in zip(axes, *gradients, strict=True)
    ]

    def together(*leaves):
        stacked = np.stack(leaves, 1)
        if mask is not None:
            stacked[~np.asarray(mask)] = 0
        return stacked

    return jax.tree.map(together, *outputs), added


def check(name, strategies, mask=None, **options):
    program = PROGRAMS[name]
    cotangents = stacked_cotangents(program, mask)
    expected = looped(program, cotangents, mask)
    given = {} if mask is None else {"mask": mask}
    for strategy in strategies:
        fun = tdjax.time_distributed(
            program.fun, in_axes=program.in_axes, strategy=strategy, **options
        )
        run = with_gradients(lambda *args, fun=fun: fun(*args, **given), program.args)
        got = jax.device_get(run(program.args, cotangents))
        assert_same(got, expected, scale=20)


@pytest.mark.parametrize("name", FOLDED)
def test_what_is_proven_gives_what_the_loop_gives(name):
    check(name, ["fold", tdjax.Fold(chunk_size=5)])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused(name):
    program = PROGRAMS[name]
    message = refusal(program.fun, *program.args, in_axes=program.in_axes)
    assert message is not None, "it is proven by now: take it out of what is refused"


def test_at_most_five_are_refused_without_need():
    expected = {name: PROGRAMS[name].expected for name in REFUSED}
    refused = [name for name, each in expected.items() if not each.needed]
    assert len(refused) <= 5, refused
    assert len(PROGRAMS) >= 120


@pytest.mark.parametrize("name", MASKED)
def test_masked_rows_leave_no_trace(name):
    check(name, ["packed"], mask=MASK)


@pytest.mark.parametrize("name", SPREAD)
def test_devices_compute_their_own_rows(name):
    spec = PartitionSpec("data", "steps")
    with jax.set_mesh(make("auto", data=2, steps=4)):
        check(name, ["fold"], partition=spec)
