"""Packed steps: the loop's answer, and nothing computed where the mask has nothing."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, CASES, TIME, array
from oracle import assert_same, is_array, value_and_vjp

import tdjax
from tdjax import Packed, StrategyError
from tdjax.core.jaxpr import all_equations

MASKS = {
    "some": jnp.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], bool),
    "none": jnp.zeros((BATCH, TIME), bool),
}
REPRESENTATIVE = (
    "several_inputs_and_outputs",
    "values_of_one_step",
    "keys_a_row",
    "shared_feature_map",
    "outputs_without_rows",
    "transposed",
)


def compiled(case, strategy):
    """Return a function of a mask that gives value and vjp, compiled once for all masks."""
    leaves, tree = jax.tree.flatten((case.weights, case.args))
    arrays = [leaf for leaf in leaves if is_array(leaf)]

    def run(mask, weights, args):
        fun = tdjax.time_distributed(case.build(*weights), strategy=strategy, **case.options())
        return fun(*args, mask=mask, **case.kwargs)

    @jax.jit
    def both(mask, arrays):
        arrays = iter(arrays)
        merged = [next(arrays) if is_array(leaf) else leaf for leaf in leaves]
        operands = jax.tree.unflatten(tree, merged)
        return value_and_vjp(functools.partial(run, mask), operands)

    return lambda mask: both(mask, arrays)


# With nothing masked, test_loop.py holds all cases to the loop; a fold with a mask is held to it in
# test_masks.py, whatever its outputs look like.
@pytest.mark.parametrize("way", ["in blocks", "at once"])
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_values_and_gradients_equal_those_of_a_masked_fold(name, way, at_once):
    strategy, within = Packed(), at_once
    if way == "in blocks":
        strategy, within = Packed(chunk_size=5), contextlib.nullcontext
    packed, folded = compiled(CASES[name], strategy), compiled(CASES[name], "fold")
    for mask in MASKS.values():
        with within():
            value, gradient = packed(mask)
        expected, expected_gradient = folded(mask)
        if name == "keys_a_row":  # keys of masked steps cannot be zero, and are not computed
            value, expected = value[0], expected[0]
        assert_same(value, expected)
        assert_same(gradient, expected_gradient, scale=20)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.folds])
def test_a_step_that_mixes_rows_is_refused(name):
    case = CASES[name]
    fun = tdjax.time_distributed(case.build(*case.weights), strategy="packed", **case.options())
    with pytest.raises(StrategyError, match=r"cannot be packed: its rows are not proven .*vmap"):
        fun(*case.args, mask=MASKS["some"], **case.kwargs)


# Two rows a step: of five real ones, blocks of four and of two take four and one.
X, WEIGHT = array(2, 5, 3), array(3, 3)
FIVE = jnp.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 1]], bool)


def layers(weight, x):
    return jnp.tanh(x @ weight)


def total(strategy, mask, weight, x):
    fun = tdjax.time_distributed(layers, in_axes=(None, 1), strategy=strategy)
    return jnp.sin(fun(weight, x, mask=mask)).sum()


def slope(strategy, mask, weight, x):
    gradients = jax.grad(total, (2, 3))(strategy, mask, weight, x)
    return sum((gradient**2).sum() for gradient in gradients)


def directional(function):
    return lambda s, m, w, x: jax.jvp(functools.partial(function, s, m), (w, x), (w, -x))


def recomputed(strategy, mask, weight, x):
    run = jax.checkpoint(functools.partial(total, strategy, mask))
    return jax.grad(run, (0, 1))(weight, x)


def in_a_scan(strategy, mask, weight, x):
    def turn(carry, shift):
        return carry + total(strategy, mask, weight, x + shift), None

    return jax.lax.scan(turn, 0.0, jnp.arange(3.0))[0]


def mapped(strategy, mask, weight, x):
    return jax.vmap(functools.partial(total, strategy, mask), (None, 0))(weight, jnp.stack([x, -x]))


def mapped_weights(strategy, mask, weight, x):
    gradient = jax.grad(functools.partial(total, strategy, mask), (0, 1))
    return jax.vmap(gradient, (0, None))(jnp.stack([weight, -weight]), x)


def gradient_of_mapped_masks(strategy, mask, weight, x):
    def run(weight, x):
        return jax.vmap(lambda m: total(strategy, m, weight, x))(jnp.stack([mask, ~mask])).sum()

    return jax.grad(run, (0, 1))(weight, x)


TRANSFORMS = {
    "jvp": directional(total),
    "gradient of a gradient": jax.grad(slope, (2, 3)),
    "gradient of a jvp": lambda s, m, w, x: jax.grad(
        lambda w, x: directional(total)(s, m, w, x)[1], (0, 1)
    )(w, x),
    "hessian": lambda s, m, w, x: jax.hessian(functools.partial(total, s, m), 0)(w, x),
    "remat": recomputed,
    "scan": jax.value_and_grad(in_a_scan, (2, 3)),
    "vmap and its gradient": jax.value_and_grad(lambda *args: mapped(*args).sum(), (2, 3)),
    "vmap over weights": mapped_weights,
    "gradient of vmap over masks": gradient_of_mapped_masks,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_works_inside_jax(name, at_once):
    def run(strategy, mask):
        return jax.jit(functools.partial(TRANSFORMS[name], strategy))(mask, WEIGHT, X)

    expected = run("vmap", FIVE)
    assert_same(run(Packed(chunk_size=4), FIVE), expected, scale=20)
    with at_once():
        assert_same(run(Packed(), FIVE), expected, scale=20)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 8, 9, 100, None])
def test_any_number_of_rows_in_blocks_of_any_size(chunk_size):
    x = array(2, 8, 3)
    order = np.random.default_rng(0).permutation(16)
    fun = jax.jit(tdjax.time_distributed(jnp.cos, strategy=Packed(chunk_size=chunk_size)))
    for count in range(17):
        mask = np.isin(np.arange(16), order[:count]).reshape(2, 8)
        assert_same(fun(x, mask=mask), jnp.where(mask[..., None], jnp.cos(x), 0.0))


@pytest.mark.parametrize("time", [1, 7, 8])
def test_any_number_of_rows_at_once(time, at_once):
    x, rows = array(2, time, 3), 2 * time
    order = np.random.default_rng(0).permutation(rows)
    squares, slopes = np.cos(x) ** 2, -np.sin(2 * np.asarray(x))
    with at_once():

        @jax.jit
        def run(mask):
            fun = tdjax.time_distributed(jnp.cos, strategy=Packed())
            return jax.value_and_grad(lambda x: (fun(x, mask=mask) ** 2).sum())(x)

        for count in range(rows + 1):
            mask = np.isin(np.arange(rows), order[:count]).reshape(2, time, 1)
            expected = np.where(mask, squares, 0).sum(), np.where(mask, slopes, 0)
            assert_same(run(mask[..., 0]), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_convolutions_at_once(dtype, at_once):
    frames, kernel = array(2, 5, 6, 6, 3), array(3, 3, 3, 4) / 12
    frames, kernel = frames.astype(dtype), kernel.astype(dtype)

    def conv(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def run(strategy, lengths):
        fun = tdjax.time_distributed(conv, in_axes=(None, 1), strategy=strategy)

        def loss(kernel, x):
            y = fun(kernel, x, seq_lengths=lengths)
            return (y.astype("float32") ** 2).sum(), y

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(kernel, frames)

    with at_once():
        ours = jax.jit(functools.partial(run, Packed()))
        found = [ours(jnp.array(lengths)) for lengths in ([2, 0], [1, 4], [5, 5])]
    theirs = jax.jit(functools.partial(run, "vmap"))
    for lengths, each in zip(([2, 0], [1, 4], [5, 5]), found, strict=True):
        assert_same(each, theirs(jnp.array(lengths)), scale=20)


def test_at_once_is_one_branch_each_way_and_what_programs_keep_shares_memory(at_once):
    gradient = jax.grad(functools.partial(total, Packed()), (1, 2))
    with at_once():
        forward, backward = made = loops(gradient, FIVE, WEIGHT, X)
        text = jax.jit(gradient).lower(FIVE, WEIGHT, X).as_text()
    assert [[phase.rows for phase in loop.phases] for loop in made] == 2 * [[3, 6, 9, 12]]
    assert [output.aval.shape for output in forward.outputs] == [(10, 3), (12 * 3,)]
    assert sorted(output.aval.shape for output in backward.outputs) == [(3, 3), (10, 3)]
    assert text.count("stablehlo.case") == 2 and "stablehlo.while" not in text


def test_blocks_that_are_asked_for_run_in_a_loop_everywhere(at_once):
    with at_once():
        run = functools.partial(total, Packed(chunk_size=4))
        (made,) = loops(run, FIVE, WEIGHT, X)
    assert not made.exclusive and made.phases[0].rows == 4


def loops(function, *args):
    """Return the loops over rows in a trace."""
    equations = all_equations(jax.make_jaxpr(function)(*args))
    return [eqn.params["loop"] for eqn in equations if eqn.primitive.name == "tdjax_row_loop"]


def test_weight_gradients_are_added_up_in_place():
    gradient = jax.grad(functools.partial(total, Packed(chunk_size=4)), (1, 2))
    made = loops(gradient, FIVE, WEIGHT, X)
    shapes = [output.aval.shape for loop in made for output in loop.outputs]
    assert (3, 3) in shapes
    assert not [shape for shape in shapes if len(shape) > 2 and shape[-2:] == (3, 3)]


def test_inputs_and_weights_are_not_stacked_for_the_backward_pass():
    """What is stacked is the product of each block, be weights converted or not."""

    def step(weight, x):
        low = weight.astype(jnp.bfloat16)
        return jax.jit(lambda x: jax.nn.relu(x.astype(jnp.bfloat16) @ low))(x)

    fun = tdjax.time_distributed(step, in_axes=(None, 1), strategy=Packed(chunk_size=4))

    def loss(weight, x):
        return fun(weight, x, mask=FIVE).astype(jnp.float32).sum()

    forward, *_ = loops(jax.grad(loss, (0, 1)), WEIGHT, X)
    assert [output.aval.shape for output in forward.outputs] == [(10, 3), (3, 4, 3)]


def test_blocks_past_the_last_real_row_do_not_run():
    from tdjax.strategies.row_loop.loop import Input, Kind, Loop, Output, Phase
    from tdjax.strategies.row_loop.primitive import run

    seen = {"forward": [], "backward": []}

    @jax.custom_vjp
    def watched(x):
        jax.debug.callback(lambda value: seen["forward"].append(int(value[0])), x)
        return x * 2

    def backward(_, cotangent):
        jax.debug.callback(lambda value: seen["backward"].append(int(value[0])), cotangent)
        return (cotangent * 2,)

    watched.defvjp(lambda x: (watched(x), None), backward)
    phase = Phase(2, 4, lambda values: [watched(*values)], (Input(0, Kind.ROWS),), (0,))
    made = Loop((phase,), (Output(Kind.ROWS, jax.ShapeDtypeStruct((8,), "float32")),), None)
    order = jnp.array([1, 4, 6, 1, 1, 1, 1, 1, 1, 1], jnp.int32)
    plan = jnp.array([3, 0, 2], jnp.int32)
    x = jnp.arange(8.0)
    (output,), pullback = jax.vjp(lambda x: run(made, plan, order, [x]), x)
    assert output.tolist() == [0, 2, 0, 0, 8, 0, 12, 0] and seen["forward"] == [1, 6]
    (gradient,) = pullback([x + 1])
    assert gradient.tolist() == [0, 4, 0, 0, 10, 0, 14, 0]
    assert sorted(seen["backward"]) == [2, 7]


@pytest.mark.parametrize("strategy", [Packed(), Packed(chunk_size=4)], ids=str)
def test_it_is_traced_twice_and_compiled_once(strategy, count_compilations):
    calls = []

    def step(x):
        calls.append(x.shape)
        return jnp.tanh(x) * 2

    def run(real):
        mask = np.arange(10).reshape(2, 5) < real
        return tdjax.time_distributed(step, strategy=strategy)(X, mask=mask)

    run(3)
    assert len(calls) == 2
    with count_compilations() as compiled:
        for real in (0, 4, 10):
            run(real)
    assert compiled == []


def test_what_fills_no_large_block_of_convolutions_is_left_to_blocks_of_one_step(on_cpu):
    frames, kernel = array(2, 5, 32, 32, 16), array(3, 3, 16, 16) / 12

    def conv(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def gradient(strategy, mask):
        fun = tdjax.time_distributed(conv, in_axes=(None, 1), strategy=strategy)
        return jax.value_and_grad(lambda k, x: (fun(k, x, mask=mask) ** 2).sum(), (0, 1))

    ours = jax.jit(lambda mask: gradient(Packed(chunk_size=8), mask)(kernel, frames))
    theirs = jax.jit(lambda mask: gradient("fold", mask)(kernel, frames))
    assert [phase.rows for phase in loops(ours, FIVE)[0].phases] == [8, 2]
    for count in (3, 5, 9, 10):
        mask = jnp.arange(10).reshape(2, 5) >= 10 - count
        assert_same(ours(mask), theirs(mask), scale=20)


def test_its_name_shows_in_a_profile():
    fun = tdjax.time_distributed(jnp.sin, strategy=Packed(chunk_size=4))
    lowered = jax.jit(fun).lower(X, mask=FIVE)
    assert "tdjax.packed" in lowered.compile().as_text()


def test_a_shared_array_with_the_batch_is_not_repeated_for_every_step():
    case = CASES["shared_feature_map"]
    fun = tdjax.time_distributed(case.build(), strategy=Packed(chunk_size=4), **case.options())
    program = jax.make_jaxpr(functools.partial(fun, mask=MASKS["some"]))(*case.args)
    sizes = [v.aval.size for eqn in all_equations(program) for v in eqn.outvars]
    assert max(sizes) < case.args[1].size * TIME


def test_it_exports_with_symbolic_sizes():
    step = tdjax.time_distributed(layers, in_axes=(None, 1), strategy=Packed(chunk_size=4))
    batch, time = jax.export.symbolic_shape("batch, time")
    specs = (
        jax.ShapeDtypeStruct((3, 3), "float32"),
        jax.ShapeDtypeStruct((batch, time, 3), "float32"),
        jax.ShapeDtypeStruct((batch, time), bool),
    )
    exported = jax.export.export(jax.jit(lambda w, x, mask: step(w, x, mask=mask)))(*specs)
    assert_same(exported.call(WEIGHT, X, FIVE), step(WEIGHT, X, mask=FIVE))


def test_what_it_needs_and_cannot_do():
    x = array(2, 3, 4)

    with pytest.raises(StrategyError, match=r"no mask.*mask=.*seq_lengths="):
        tdjax.time_distributed(jnp.sin, strategy="packed")(x)
    keep = tdjax.time_distributed(jnp.sin, strategy="packed", masked_output="keep")
    with pytest.raises(StrategyError, match=r'masked_output="keep".*strategy="fold"'):
        keep(x, mask=jnp.ones((2, 3), bool))
    fun = tdjax.time_distributed(
        lambda x: x - jax.lax.pmean(x, "time"), strategy="packed", axis_name="time"
    )
    with pytest.raises(StrategyError, match='strategy="vmap"'):
        fun(x, mask=jnp.ones((2, 3), bool))


def test_within_a_fold_its_mask_counts_over_all_steps_and_the_way_out_is_named():
    x, keep = array(2, 2, 3, 4), jnp.arange(12).reshape(2, 2, 3) % 5 < 2
    inner = tdjax.time_distributed(jnp.tanh, strategy="packed")

    def run(strategy):
        return tdjax.time_distributed(lambda x, m: inner(x, mask=m), strategy=strategy)(x, keep)

    with pytest.raises(StrategyError, match=r'inside it has strategy="packed".*strategy="vmap"'):
        run("fold")
    expected = jnp.where(keep[..., None], jnp.tanh(x), 0)
    for strategy in ("vmap", "auto", tdjax.Fold(assume_independent=True)):
        assert_same(run(strategy), expected)
