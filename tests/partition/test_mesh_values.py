"""Functions spread over a mesh against the plain loop: values, gradients, noise."""

import functools

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
from casebook import array
from cases import BATCH, CASES, TIME
from jax.sharding import PartitionSpec as P
from oracle import assert_same, is_array, loop, value_and_vjp

import tdjax
from tdjax import Auto, Fold, Packed, StrategyError, Vmap
from tdjax.independence.two_traces import Merged

BOTH = P("data", "seq")
TIME_ALONE = P(None, "seq")
# Their batch is spread as well, or they close over arrays, keep derivative rules, loop or branch.
WITH_GRADIENTS = (
    "dense",
    "several_inputs_and_outputs",
    "patches_merged_with_batch",
    "recurrent_net_inside",
    "values_of_one_step",
    "shared_feature_map",
    "custom_jvp",
    "custom_vjp",
    "cond_shared",
    "while_shared",
    "remat_and_jit_inside",
    "transposed",
)
NO_ROWS = ("scalar_a_step",)


def mesh_of(kind):
    return meshes.make(kind, data=2, seq=TIME)


def partition_of(case):
    return BOTH if case.folds else TIME_ALONE


def spread(case, weights, args, strategy, partition):
    step = case.build(*weights)
    wrapped = tdjax.time_distributed(step, strategy=strategy, partition=partition, **case.options())
    return wrapped(*args, **case.kwargs)


def plain(case, weights, args):
    return loop(case.build(*weights), args, **case.options(), kwargs=case.kwargs)


def compiled(case, run):
    """Return a function of the arrays among weights and arguments, under jit."""
    leaves, tree = jax.tree.flatten((case.weights, case.args))
    arrays = {place: leaf for place, leaf in enumerate(leaves) if is_array(leaf)}

    def on_arrays(arrays):
        merged = [arrays.get(place, leaf) for place, leaf in enumerate(leaves)]
        return run(*jax.tree.unflatten(tree, merged))

    return jax.device_get(jax.jit(on_arrays)(arrays))


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITH_GRADIENTS])
def test_every_step_function(name):
    case = CASES[name]
    with jax.set_mesh(mesh_of("auto")):
        got = compiled(case, lambda w, a: spread(case, w, a, Vmap(), partition_of(case)))
    assert_same(got, compiled(case, functools.partial(plain, case)))


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients(name):
    case = CASES[name]

    def run(kind, weights, args):
        if kind == "explicit":
            weights = jax.tree.map(lambda x: jax.sharding.reshard(x, P()), weights)
        output = spread(case, weights, args, Fold(chunk_size=2), partition_of(case))
        return output if kind == "auto" else jax.sharding.reshard(output, P())

    def both(fun, *args):
        return value_and_vjp(fun, args)

    expected = compiled(case, functools.partial(both, functools.partial(plain, case)))
    for kind in ("auto", "explicit"):
        with jax.set_mesh(mesh_of(kind)):
            got = compiled(case, functools.partial(both, functools.partial(run, kind)))
        assert_same(got, expected)


@pytest.mark.parametrize("strategy", ["map", Fold(chunk_size=1), Fold(chunk_size=4)], ids=str)
@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("spec", [(None, None, "model"), (None, None, None, None, "model")])
def test_blocks_leave_features_that_an_explicit_mesh_holds_in_parts(spec, places, strategy):
    """Their types say so, and an axis that is spread cannot be merged with another."""
    mesh = meshes.make("explicit", model=2)
    x, kernel = array(4, 3, 4, 4, 16), array(places, places, 16, 20, seed=1) / 16
    rows_alone = spec[-1] == "model" and len(spec) == 5  # a convolution would sum over devices

    def step(kernel, x):
        y = jnp.tanh(x)
        numbers = ("NHWC", "HWIO", "NHWC")
        if rows_alone:
            return y
        return jax.lax.conv_general_dilated(y, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def both(kernel, x):
        run = tdjax.time_distributed(step, in_axes=(None, 1), strategy=strategy)
        return jax.value_and_grad(lambda *args: (run(*args) ** 2).sum(), (0, 1))(kernel, x)

    expected = jax.jit(both)(kernel, x)
    with jax.set_mesh(mesh):
        got = jax.jit(both)(meshes.put(mesh, kernel), meshes.put(mesh, x, *spec))
    assert_same(jax.device_get(got), jax.device_get(expected))


@pytest.mark.parametrize(
    "strategy, mask",
    [
        (Vmap(chunk_size=1), False),
        (Vmap(chunk_size=1, unroll=True), True),
        (Fold(), True),
        (Packed(chunk_size=3), True),
        (Auto(), False),
    ],
    ids=str,
)
def test_strategies(strategy, mask):
    mesh = meshes.make("auto", data=2, seq=4)
    x = array(4, 8, 5)
    real = jnp.arange(8)[None] < jnp.array([3, 8, 0, 5])[:, None]
    x = jnp.where(real[:, :, None], x, jnp.nan) if mask else x

    def run(partition, x):
        step = tdjax.time_distributed(
            lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
            strategy=strategy,
            partition=partition,
        )
        return step(x, mask=real if mask else None)

    def differentiated(partition, x):
        return jax.jit(lambda x: value_and_vjp(lambda x: run(partition, x), (x,)))(x)

    expected = differentiated(None, x)
    got = differentiated(BOTH, meshes.put(mesh, x, "data", "seq"))
    assert_same(jax.device_get(got), jax.device_get(expected))


def test_types_of_arguments_say_how_they_lie():
    mesh = meshes.make("explicit", data=2, seq=4)
    x = meshes.put(mesh, array(4, 8, 6), "data", "seq")
    kernel = meshes.put(mesh, array(6, 3), "data")

    def run(kernel, x):
        return tdjax.time_distributed(lambda x: jnp.tanh(x @ kernel))(x)

    got = jax.jit(run)(kernel, x)
    assert jax.typeof(got).sharding.spec == P("data", "seq", None)
    expected = loop(lambda x: jnp.tanh(x @ array(6, 3)), (array(4, 8, 6),))
    assert_same(jax.device_get(got), jax.device_get(expected))
    gradient = jax.jit(jax.grad(lambda kernel: run(kernel, x).sum()))(kernel)
    assert jax.typeof(gradient).sharding.spec == P("data", None)


@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_other_axes_split_the_function_inside(kind):
    mesh = meshes.make(kind, data=2, seq=2, model=2)
    x, kernel = array(4, 4, 6), array(6, 8)

    def run(x, kernel):
        step = tdjax.time_distributed(
            lambda x, kernel: jnp.tanh(x @ kernel) @ kernel.T,
            in_axes=(1, None),
            partition=None if kind == "explicit" else BOTH,
        )
        return step(x, kernel)

    placed = meshes.put(mesh, x, "data", "seq"), meshes.put(mesh, kernel, None, "model")
    expected = value_and_vjp(lambda x, kernel: jnp.tanh(x @ kernel) @ kernel.T, (x, kernel))
    assert_same(
        jax.device_get(jax.jit(lambda *args: value_and_vjp(run, args))(*placed)),
        jax.device_get(expected),
    )
    # The two halves of the features meet once; no weight moves.
    assert meshes.collectives(meshes.compiled(run, *placed)) == {"all-reduce": 1}


@pytest.mark.parametrize("partition", [P(("data", "fsdp"), "seq"), P("fsdp"), P(("data", "seq"))])
def test_several_axes_for_one(partition):
    mesh = meshes.make("auto", data=2, fsdp=2, seq=2)
    x = array(4, 4, 3)
    with jax.set_mesh(mesh):
        got = tdjax.time_distributed(jnp.cos, partition=partition)(x)
    assert_same(jax.device_get(got), jax.device_get(jnp.cos(x)))


@pytest.mark.parametrize(
    "impl, strategy",
    [
        ("threefry2x32", Vmap()),
        ("threefry2x32", Fold(chunk_size=3)),
        ("rbg", Vmap(chunk_size=1)),
    ],
    ids=str,
)
def test_noise_has_the_bits_of_one_device(impl, strategy):
    mesh = meshes.make("auto", data=2, seq=4)
    x, keys = jnp.ones((4, 8, 6)), jax.random.split(jax.random.key(3, impl=impl), 8)

    def drop(x, key):
        first, second = jax.random.split(key)
        kept = jnp.where(jax.random.bernoulli(first, 0.5, x.shape), x, 0.0)
        kept = kept + jax.random.normal(first, x.shape, jnp.bfloat16).astype(jnp.float32)
        return kept + jax.random.uniform(jax.random.fold_in(second, 3), (1, 1)), second

    def run(partition, x):
        step = tdjax.time_distributed(
            drop, in_axes=(1, 0), out_axes=(1, 0), strategy=strategy, partition=partition
        )
        return step(x, keys)

    got = jax.jit(functools.partial(run, BOTH))(meshes.put(mesh, x, "data", "seq"))
    expected = jax.jit(functools.partial(run, None))(x)
    jax.tree.map(np.testing.assert_array_equal, *map(bits, (got, expected)))


@pytest.mark.parametrize("strategy", [Vmap(), Fold()], ids=str)
def test_keys_of_rows_are_those_of_one_device(strategy):
    mesh = meshes.make("auto", data=2, seq=4)
    x, keys = jnp.ones((4, 8, 6)), jax.random.split(jax.random.key(3), 8)

    def add(x, key):
        return x + jax.vmap(lambda key: jax.random.uniform(key, (6,)))(
            jax.random.split(key, x.shape[0])
        )

    def run(partition, x):
        step = tdjax.time_distributed(add, in_axes=(1, 0), strategy=strategy, partition=partition)
        return step(x, keys)

    got = run(BOTH, meshes.put(mesh, x, "data", "seq"))
    np.testing.assert_array_equal(got, run(None, x))
    assert not np.array_equal(got[:2], got[2:])


def test_no_device_draws_the_noise_of_others():
    mesh = meshes.make("auto", data=8)
    x = meshes.put(mesh, jnp.ones((64, 2, 128)), "data")
    keys = jax.random.split(jax.random.key(3), 2)

    def flops(partition):
        step = tdjax.time_distributed(
            lambda x, key: x + jax.random.uniform(key, x.shape),
            in_axes=(1, 0), strategy="vmap", partition=partition,
        )  # fmt: skip
        return meshes.compiled(step, x, keys).cost_analysis()["flops"]

    assert flops(P("data")) < 1.2 * flops(None)  # which XLA spreads by itself


def bits(output):
    return np.asarray(output[0]), np.asarray(jax.random.key_data(output[1]))


def test_noise_from_bare_keys_is_refused():
    mesh = meshes.make("auto", data=2, seq=4)
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), 8))
    step = tdjax.time_distributed(
        lambda x, key: x + jax.random.normal(key, x.shape), in_axes=(1, 0), partition=BOTH
    )
    with pytest.raises(
        StrategyError, match=r"noise of shape \(2, 6\).*give every step a typed key"
    ):
        step(meshes.put(mesh, array(4, 8, 6), "data", "seq"), keys)


def test_rows_that_meet_need_their_whole_batch():
    mesh = meshes.make("auto", data=2, seq=4)
    centered = tdjax.time_distributed(lambda x: x - x.mean(0), strategy="vmap", partition=BOTH)
    with pytest.raises(StrategyError, match=r"spread over 'data'.*reduce_sum.*P.*\(None, 'seq'\)"):
        centered(meshes.put(mesh, array(4, 8, 3), "data", "seq"))


def test_steps_that_talk_need_each_other_alone():
    mesh = meshes.make("auto", data=2, seq=4)
    x = array(4, 3, 5)

    def step(x):
        mean = jax.lax.pmean(x, "time")
        return x - mean, jax.lax.all_gather(x, "time").max(0), jax.lax.axis_index("time") * mean

    def run(partition, fun=step):
        spread = tdjax.time_distributed(fun, axis_name="time", strategy="vmap", partition=partition)
        return value_and_vjp(spread, (x,))

    with jax.set_mesh(mesh):
        got = jax.jit(lambda: run(P("data")))()
        with pytest.raises(StrategyError, match=r"spread over 'data'.*reduce_sum"):
            run(P("data"), lambda x: jax.lax.pmean(x, "time").mean(0) + x)
    assert_same(jax.device_get(got), jax.device_get(run(None)))


def test_pooled_needs_independent_rows():
    mesh = meshes.make("auto", seq=4)
    x = array(2, 8, 3)
    with jax.set_mesh(mesh):
        got = tdjax.time_distributed(jnp.cos, pooled=True, partition=P(None, "seq"))(x)
        with pytest.raises(StrategyError, match=r"pooled=True.*leaves spreading to XLA"):
            mixing = tdjax.time_distributed(
                lambda x: x - x.mean(0), pooled=True, partition=P(None, "seq")
            )
            mixing(x)
    assert_same(jax.device_get(got), jax.device_get(jnp.cos(x)))


def test_a_promise_of_independence_is_taken():
    mesh = meshes.make("auto", data=2)
    x = array(4, 2, 3)
    step = tdjax.time_distributed(
        lambda x: (jnp.sort(x, 0) * 0 + x, jnp.float32(2)),
        strategy=Fold(assume_independent=True),
        out_axes=(1, None),
        partition=P("data"),
    )
    with jax.set_mesh(mesh):
        got = step(x)
    assert_same(jax.device_get(got), (np.asarray(x), np.float32(2)))


def test_the_mesh_in_scope_is_no_difference_between_traces():
    """JAX remembers inner programs, whatever mesh was in scope when they were traced first."""
    inner = jax.jit(jnp.sin)
    without = jax.make_jaxpr(inner)(jnp.ones((2, 6)))
    with jax.set_mesh(mesh_of("auto")):
        within = jax.make_jaxpr(inner)(jnp.ones((3, 6)))
    assert within.eqns[0].params["ctx_mesh"] != without.eqns[0].params["ctx_mesh"]
    assert [eqn.primitive.name for eqn in Merged(without, within, 2, 3).eqns] == ["jit"]


def test_what_was_compiled_is_remembered(count_compilations):
    mesh = meshes.make("auto", data=2, seq=4)
    x = meshes.put(mesh, array(4, 8, 3), "data", "seq")

    def run():
        return tdjax.time_distributed(lambda x: jnp.sin(x) * 2, partition=BOTH)(x)

    first = run()
    with count_compilations() as compiled:
        second = run()
    assert not compiled
    np.testing.assert_array_equal(first, second)


def test_transforms():
    mesh = meshes.make("auto", data=2, seq=2)
    x = array(3, 4, 4, 2)
    step = tdjax.time_distributed(jnp.sin, partition=BOTH)
    with jax.set_mesh(mesh):
        mapped = jax.vmap(step)(x)
        pushed = jax.jvp(step, (x[0],), (x[1],))[1]
        shape = jax.eval_shape(step, x[0])
        again = jax.grad(jax.checkpoint(lambda x: step(x).sum()))(x[0])
        _, scanned = jax.lax.scan(lambda carry, x: (carry, step(x)), None, x)
    assert_same(jax.device_get(mapped), jax.device_get(jnp.sin(x)))
    assert_same(jax.device_get(scanned), jax.device_get(jnp.sin(x)))
    assert_same(jax.device_get(pushed), jax.device_get(jnp.cos(x[0]) * x[1]))
    assert_same(jax.device_get(again), jax.device_get(jnp.cos(x[0])))
    assert shape.shape == (4, 4, 2)


def test_nested():
    mesh = meshes.make("auto", data=2, seq=2)
    x = array(4, 4, 3, 2)
    inner = tdjax.time_distributed(jnp.sin)
    with jax.set_mesh(mesh):
        got = tdjax.time_distributed(inner, partition=BOTH)(x)
    assert_same(jax.device_get(got), jax.device_get(jnp.sin(x)))


def test_traces():
    mesh = meshes.make("auto", data=2, seq=4)
    x = array(4, 8, 3)
    for number, (strategy, partition, most) in enumerate(
        (
            ("vmap", TIME_ALONE, 1),
            ("fold", TIME_ALONE, 2),
            ("vmap", BOTH, 2),
            ("fold", BOTH, 2),
        )
    ):
        seen = []

        def step(x, seen=seen, number=number):
            seen.append(x.shape)
            return x * number + 7

        wrapped = tdjax.time_distributed(step, strategy=strategy, partition=partition)
        with jax.set_mesh(mesh):
            jax.make_jaxpr(wrapped)(x)
        assert len(seen) == most, (strategy, partition, seen)


def test_auto_plans_for_the_block():
    mesh = meshes.make("auto", data=2, seq=4)
    step = tdjax.time_distributed(jnp.tanh, partition=BOTH)
    with jax.set_mesh(mesh):
        explanation = tdjax.explain(step, array(4, 8, 5))
    assert any("there are 2 x 2 rows" in reason for reason in explanation.reasons)


def test_no_steps():
    mesh = meshes.make("auto", data=2, seq=4)
    with jax.set_mesh(mesh):
        got = tdjax.time_distributed(jnp.tanh, partition=BOTH)(jnp.ones((BATCH, 0, 3)))
    assert got.shape == (BATCH, 0, 3)


def test_spreading_can_be_left_to_xla():
    mesh = meshes.make("explicit", data=2)
    x = meshes.put(mesh, array(4, 3, 2), "data")
    step = tdjax.time_distributed(lambda x: x - x.mean(0), strategy="vmap", partition=P())
    with jax.set_mesh(mesh):
        got = jax.jit(step)(x)
    assert_same(
        jax.device_get(got), jax.device_get(loop(lambda x: x - x.mean(0), (array(4, 3, 2),)))
    )


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_gradients_of_narrow_weights_are_added_up_in_float32(kind, closed):
    rng = np.random.default_rng(0)
    x, cotangent = rng.normal(size=(2, 16, 8 * TIME, 16)).astype(jnp.bfloat16)
    kernel = rng.normal(size=(16, 16)).astype(jnp.bfloat16)
    right = np.einsum("btf,btg->fg", *(np.asarray(each, np.float64) for each in (x, cotangent)))

    def gradient(kernel, strategy, partition):
        def run(kernel):
            step, given, axes = lambda kernel, x: x @ kernel, (kernel, x), (None, 1)
            if closed:
                step, given, axes = lambda x: x @ kernel, (x,), 1
            options = {"in_axes": axes, "strategy": strategy, "partition": partition}
            return tdjax.time_distributed(step, **options)(*given)

        return jax.vjp(run, kernel)[1](jnp.asarray(cotangent))[0]

    def error(strategy, partition):
        found = jax.jit(lambda kernel: gradient(kernel, strategy, partition))(kernel)
        return np.linalg.norm(np.asarray(found, np.float64) - right) / np.linalg.norm(right)

    whole = error(Fold(), None)
    with jax.set_mesh(mesh_of(kind)):
        for partition in (BOTH, TIME_ALONE):
            assert error(Fold(chunk_size=8), partition) < 1.5 * whole
