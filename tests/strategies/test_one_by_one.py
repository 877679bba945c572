"""Steps that cannot be batched: `auto` takes them one after the other, and others refuse them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax import lax
from jax.custom_batching import custom_vmap, sequential_vmap
from jax.custom_derivatives import linear_call
from jax.experimental import io_callback, pallas
from jax.experimental.custom_partitioning import custom_partitioning
from oracle import assert_same

import tdjax
from tdjax import Vmap

X = array(4, 3, 6)
EXPERTS = array(2, 6, 5, seed=1)
SIZES = np.array([1, 3], np.int32)
STEPS = {}


def steps(primitive):
    """Register a step with the operation that stands in the way of batches."""

    def register(step):
        STEPS[step.__name__] = step, primitive
        return step

    return register


def like(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def on_host(x, **options):
    return jax.pure_callback(np.sin, like(x), x, **options)


@steps("ragged_dot_general")
def ragged_product(x):
    return lax.ragged_dot(x, EXPERTS, SIZES)


@steps("ragged_dot_general")
def ragged_product_whose_groups_follow_the_data(x):
    first = (x[:, 0] > 0).sum(dtype=jnp.int32)
    return lax.ragged_dot(x, EXPERTS, jnp.stack([first, 4 - first]))


@steps("ragged_dot_general")
def ragged_contraction(x):
    numbers = lax.RaggedDotDimensionNumbers((([0], [0]), ([], [])), [0], [])
    return lax.ragged_dot_general(x, x * 2, SIZES, numbers)


@steps("pure_callback")
def callback_without_a_method(x):
    return on_host(x)


@steps("pure_callback")
def callback_in_a_loop(x):
    return lax.scan(lambda total, row: (total + on_host(row), row), x[0], x)[0]


@steps("pure_callback")
def callback_in_jit(x):
    return jax.jit(on_host)(x) * 2


@steps("pure_callback")
def callback_in_a_derivative_rule(x):
    @jax.custom_vjp
    def sine(x):
        return on_host(x)

    sine.defvjp(lambda x: (on_host(x), x), lambda x, g: (g * on_host(x + np.pi / 2),))
    return sine(x)


@steps("linear_call")
def linear_function(x):
    return linear_call(lambda _, x: x * 2, lambda _, g: g * 2, (), x)


partitioned = custom_partitioning(jnp.sin)
partitioned.def_partition(
    partition=lambda mesh, args, result: (mesh, jnp.sin, result, args),
    infer_sharding_from_operands=lambda mesh, args, result: args[0].sharding,
    sharding_rule="... -> ...",
)


@steps("custom_partitioning")
def with_a_partitioning_of_its_own(x):
    return partitioned(x)


@steps("swap")
def ref_written_in_a_branch(x):
    ref = jax.new_ref(x)
    lax.cond(x[0, 0] > 0, lambda: ref.__setitem__(0, x[1]), lambda: None)
    return ref[...]


@steps("io_callback")
def effect_in_a_branch(x):
    def doubled(x):
        return io_callback(lambda x: np.asarray(x) * 2, like(x), x)

    return lax.cond(x.sum() > 0, doubled, lambda x: x, x)


def loop(step, x=X):
    return jnp.stack([step(x[:, t]) for t in range(x.shape[1])], 1)


@pytest.mark.parametrize("name", STEPS)
def test_auto_runs_them_one_after_the_other(name):
    step, primitive = STEPS[name]
    strategies = ["auto", "map", "unroll", Vmap(chunk_size=1, remat=True)]
    if "effect" in name or "ref" in name:  # JAX has no jax.checkpoint of these
        strategies.pop()
    runs = [tdjax.time_distributed(step, strategy=each) for each in strategies]
    one = tdjax.time_distributed(step)
    compiled = jax.jit(lambda x: (loop(step, x), [run(x) for run in runs], one(x[:, :1])))
    expected, found, first = jax.device_get(compiled(X))
    for each in found:
        assert_same(each, expected)
    assert_same(first, expected[:, :1])
    explanation = tdjax.explain(step, X)
    assert explanation.strategy == Vmap(chunk_size=1)
    assert f"run one after the other, because `{primitive}` at" in str(explanation)
    assert "test_one_by_one.py" in explanation.reasons[0]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    "strategy", ["vmap", Vmap(remat=True), Vmap(chunk_size=2), "fold", "packed"], ids=str
)
def test_others_refuse_them_by_name(name, strategy):
    step, primitive = STEPS[name]
    run = tdjax.time_distributed(step, strategy=strategy)
    masked = {} if strategy in ("vmap", "fold") else {"seq_lengths": np.array([1, 2, 3, 3])}
    with pytest.raises(tdjax.StrategyError) as caught:
        jax.eval_shape(lambda x: run(x, **masked), X)
    if strategy not in ("fold", "packed"):  # these may meet something else first
        assert f"`{primitive}` at" in str(caught.value)
    assert 'strategy="map"' in str(caught.value)
    assert '"auto"' in str(caught.value)


def test_masks_and_gradients():
    def step(x):
        return lax.ragged_dot(x, EXPERTS, SIZES)

    lengths = np.array([3, 1, 2, 3], np.int32)
    real = (np.arange(3) < lengths[:, None])[..., None]
    wrapped = tdjax.time_distributed(step)

    def both(x):
        mine = jax.value_and_grad(lambda x: (wrapped(x, seq_lengths=lengths) ** 2).sum())
        theirs = jax.value_and_grad(lambda x: (jnp.where(real, loop(step, x), 0.0) ** 2).sum())
        return mine(x), theirs(x)

    assert_same(*jax.device_get(jax.jit(both)(X)))


# --- effects ----------------------------------------------------------------------------------


class Log:
    """What steps have told the host, in the order in which it came."""

    def __init__(self):
        self.seen = []

    def note(self, x):
        self.seen.append(float(x))
        return np.float32(len(self.seen))


def ordered_callback(log):
    def step(x):
        return x + io_callback(log.note, jax.ShapeDtypeStruct((), x.dtype), x[0, 0], ordered=True)

    return step


def callback_of_nothing(log):
    def step(x):
        number = io_callback(lambda: log.note(0.0), jax.ShapeDtypeStruct((), x.dtype), ordered=True)
        return x + number

    return step


def unordered_callback_of_nothing(log):
    def step(x):
        return x + io_callback(lambda: log.note(0.0), jax.ShapeDtypeStruct((), x.dtype))

    return step


def ordered_callbacks_for_debugging(log):
    def step(x):
        jax.debug.callback(log.note, x[0, 0], ordered=True)
        jax.debug.callback(log.note, x[1, 1], ordered=True)
        return x * 2

    return step


EFFECTS = [
    ordered_callback, callback_of_nothing, unordered_callback_of_nothing,
    ordered_callbacks_for_debugging,
]  # fmt: skip


@pytest.mark.parametrize("make", EFFECTS)
@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_effects_come_in_the_order_of_the_steps(make, jit):
    logs = Log(), Log()
    run = tdjax.time_distributed(make(logs[0]))
    theirs = make(logs[1])
    output = (jax.jit(run) if jit else run)(X)
    expected = jax.jit(lambda x: loop(theirs, x))(X)
    jax.effects_barrier()
    assert logs[0].seen == logs[1].seen
    assert_same(output, expected)


@pytest.mark.parametrize("make", EFFECTS[:-1])  # what steps print is printed step by step
@pytest.mark.parametrize("strategy", ["fold", Vmap(chunk_size=2)], ids=str)
def test_effects_of_several_steps_at_once_are_refused(make, strategy):
    run = tdjax.time_distributed(make(Log()), strategy=strategy)
    with pytest.raises(tdjax.StrategyError, match=r"callback|`slice`"):
        jax.eval_shape(run, X)


# --- arrays that a step makes and changes in place ----------------------------------------------


def ref_of_rows(x):
    ref = jax.new_ref(x)
    ref[2] = x[0] * 2
    ref[:, 1] = x[:, 3]
    return ref[...]


def ref_in_a_loop(x):
    ref = jax.new_ref(x)

    def body(i, carry):
        ref[i] = ref[i] * 2 + x[0]
        return carry

    lax.fori_loop(0, 4, body, 0)
    return jax.freeze(ref)


def ref_that_adds_up_rows(x):
    ref = jax.new_ref(jnp.zeros(6))

    def body(carry, row):
        ref[...] += row
        return carry, ref[...]

    return lax.scan(body, 0, x)[1]


@pytest.mark.parametrize("step", [ref_of_rows, ref_in_a_loop, ref_that_adds_up_rows])
def test_refs(step):
    strategies = ["auto", "vmap", "map", "unroll", Vmap(chunk_size=2)]
    runs = [tdjax.time_distributed(step, strategy=each) for each in strategies]
    last = tdjax.time_distributed(step, in_axes=2, out_axes=2)
    compiled = jax.jit(
        lambda x: (loop(step, x), [run(x) for run in runs], last(jnp.moveaxis(x, 1, 2)))
    )
    expected, found, moved = jax.device_get(compiled(X))
    for each in [*found, np.moveaxis(moved, 2, 1)]:
        assert_same(each, expected)
    with pytest.raises(tdjax.StrategyError, match="cannot be folded"):
        jax.eval_shape(tdjax.time_distributed(step, strategy="fold"), X)


def test_a_program_on_refs_that_gives_no_outputs_of_its_own():
    def step(x):
        return pallas.run_state(lambda ref: ref.__setitem__(..., ref[...] * 2))(x)

    for strategy in ("auto", "map", "unroll"):
        assert_same(tdjax.time_distributed(step, strategy=strategy)(X), loop(step))
    for strategy in ("fold", "vmap"):
        with pytest.raises(tdjax.StrategyError, match="run_state"):
            jax.eval_shape(tdjax.time_distributed(step, strategy=strategy), X)


# --- what can be batched, and errors that are not of tdjax ---------------------------------------


@custom_vmap
def with_own_rule(x):
    return lax.ragged_dot(x, EXPERTS, SIZES)


@with_own_rule.def_vmap
def _(size, batched, x):
    return lax.map(lambda x: lax.ragged_dot(x, EXPERTS, SIZES), x), True


@sequential_vmap
def in_sequence(x):
    return on_host(x)


def with_a_method(x):
    return on_host(x, vmap_method="sequential")


@pytest.mark.parametrize("step", [with_own_rule, in_sequence, with_a_method])
def test_what_says_how_it_is_batched_is_batched(step):
    runs = [tdjax.time_distributed(step, strategy=each) for each in ("auto", "vmap")]
    expected, *found = jax.device_get(
        jax.jit(lambda x: (loop(step, x), *(run(x) for run in runs)))(X)
    )
    for each in found:
        assert_same(each, expected)
    assert tdjax.explain(step, X).strategy != Vmap(chunk_size=1)


@custom_vmap
def with_a_rule_that_fails(x):
    return x * 2


@with_a_rule_that_fails.def_vmap
def _(size, batched, x):
    raise NotImplementedError("not in batches")


def fails_itself(x):
    raise NotImplementedError("not yet")


def fails_by_value(x):
    raise ValueError("of no use")


@pytest.mark.parametrize("strategy", ["auto", "vmap", "map", Vmap(chunk_size=2)], ids=str)
@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        (with_a_rule_that_fails, NotImplementedError, "not in batches"),
        (fails_itself, NotImplementedError, "not yet"),
        (fails_by_value, ValueError, "of no use"),
    ],
)
def test_errors_of_the_user_pass_unchanged(strategy, step, kind, message):
    run = tdjax.time_distributed(step, strategy=strategy)
    if step is with_a_rule_that_fails and strategy == "map":
        jax.eval_shape(run, X)  # it maps nothing
        return
    with pytest.raises(kind, match=message) as caught:
        jax.eval_shape(run, X)
    assert type(caught.value) is kind


def test_out_axes_none_without_batches():
    def step(x, w):
        return on_host(x), on_host(w)

    run = tdjax.time_distributed(step, in_axes=(1, None), out_axes=(1, None))
    output, shared = jax.jit(run)(X, EXPERTS)
    assert_same(jax.device_get((output, shared)), (np.sin(X), np.sin(EXPERTS)))
    every = tdjax.time_distributed(step, in_axes=(1, None), out_axes=None)
    with pytest.raises(ValueError, match="differs between steps"):
        jax.eval_shape(every, X, EXPERTS)


@pytest.mark.parametrize("strategy", ["map", "unroll", tdjax.Vmap(chunk_size=2)])
def test_out_axes_none_where_a_step_decides_how_often_a_loop_goes_round(strategy):
    def step(x):
        return jax.lax.while_loop(lambda c: c < x.sum(), lambda c: c + 1, 0.0)

    run = tdjax.time_distributed(step, out_axes=None, strategy=strategy)
    with pytest.raises(ValueError, match="differs between steps"):
        run(np.ones((2, 3, 2), np.float32))
