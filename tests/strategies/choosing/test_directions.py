"""Where one strategy is best forward and another with gradients, each runs where it is best."""

import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.experimental import checkify, io_callback
from jax.sharding import AxisType, PartitionSpec
from oracle import assert_same, loop

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Auto, Fold, Packed, Vmap, explain, time_distributed
from tdjax.core.jaxpr import all_equations
from tdjax.devices.attached import device_kind
from tdjax.devices.tuned_result import Tuned, TunedCandidate
from tdjax.strategies import recorded, to_data
from tdjax.strategies.choosing import tuned

RNG = np.random.default_rng(0)
SCANNED, WRITTEN = Fold(chunk_size=4), Fold(chunk_size=8, unroll=True)
STEPS = Vmap(chunk_size=2)


def array(*shape, dtype=np.float32):
    return jax.device_put(RNG.normal(size=shape).astype(dtype))


WEIGHTS, CLIPS = array(3, 3), array(4, 3, 3)
LENGTHS = np.array([3, 1, 2, 0])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))


def decided(run, *args):
    """Return what is decided in a call; `jax.eval_shape` would remember a function's trace."""
    with recorded() as decisions:
        jax.eval_shape(lambda *args: run(*args), *args)
    return decisions


def prefer(forward, gradient, run, *args, sizes=(None, None), other=2.0):
    """Have these two measured to be the fastest, each in its mode, of all that a call distributes.

    Args:
        forward, gradient: strategies; None for one that nothing was measured of.
        run, args: a call, which is traced alone.
        sizes: the temporary memory of the two.
        other: how long the other one takes forward, of times that are known to a tenth.
    """
    modes = {"forward": forward, "grad": gradient}
    for decision in decided(run, *args):
        for mode, best in modes.items():
            if best is None:
                continue
            timed = zip((forward or best, gradient or best), sizes, strict=True)
            tuned.keep(
                Tuned(
                    program=tuned.program_of(decision.call, decision.call.traced),
                    mode=mode,
                    title="step",
                    sizes=(decision.call.batch, decision.call.time),
                    device=device_kind(),
                    versions=tuned.versions(),
                    date="2026-01-01",
                    candidates=tuple(
                        TunedCandidate(
                            str(each),
                            **to_data(each),
                            status="ok",
                            median_s=1.0 if each == best else other if mode == "forward" else 2.0,
                            low=0.9,
                            high=1.1,
                            temp_bytes=taken,
                        )
                        for each, taken in timed
                    ),
                )
            )


def program_of(fun, *args):
    return jax.make_jaxpr(lambda *args: fun(*args))(*args)


def names_in(fun, *args):
    return {eqn.primitive.name for eqn in all_equations(program_of(fun, *args))}


def loops_in(fun, *args):
    """Return how many loops are left in the program that a function is lowered to."""
    return jax.jit(lambda *args: fun(*args)).lower(*args).as_text().count("stablehlo.while")


# Steps: what they are given beside the clips, with the axes of all, and what they do.


def dense(w, x):
    return jnp.tanh(x @ w)


def numbers(w, x, n):
    return {"y": x @ w * n[:, None], "n": n + 1, "found": n > 2}


def noise(w, x, key):
    return x @ w + jax.random.normal(key, (3,)), key


def centered(w, x):
    return dense(w, x) - x.mean(0, keepdims=True)


@jax.custom_vjp
def _scaled(x, s):
    return jnp.sin(x * s)


_scaled.defvjp(
    lambda x, s: (jnp.sin(x * s), (x, s)),
    lambda kept, g: (g * jnp.cos(kept[0] * kept[1]) * kept[1],
                     (g * jnp.cos(kept[0] * kept[1]) * kept[0]).sum()),
)  # fmt: skip


def ruled(w, x):
    return _scaled(x @ w, w[0, 0])


def branching(w, x):
    return lax.cond(w[0, 0] > 0, lambda x: jnp.sin(x @ w), jnp.cos, x)


COUNTS = jax.device_put(np.arange(12).reshape(4, 3))
CASES = {
    "dense": (dense, (), (), SCANNED, Vmap(), {}),
    "written": (dense, (), (), Vmap(), WRITTEN, {}),
    "whole numbers": (numbers, (COUNTS,), (1,), Fold(), SCANNED, {}),
    "keys": (noise, (jax.random.split(jax.random.key(0), 3),), (0,), STEPS, Fold(), {}),
    "rule": (ruled, (), (), SCANNED, Fold(), {}),
    "branch": (branching, (), (), SCANNED, Vmap(), {}),
    "mixing": (centered, (), (), STEPS, Vmap(), {}),
    "packed": (dense, (), (), Packed(chunk_size=4), WRITTEN, {"seq_lengths": LENGTHS}),
    "packed with gradients": (dense, (), (), Vmap(), Packed(chunk_size=4), {"mask": True}),
}


def first_of(output):
    return next(y for y in jax.tree.leaves(output) if jnp.issubdtype(y.dtype, jnp.inexact))


def transformed(run, w, x, *rest, forward=True):
    """Return what a function of weights and clips gives under all that JAX does to functions."""

    def output(w, x):
        return run(w, x, *rest)

    def loss(w, x):
        return (first_of(output(w, x)) ** 2).sum()

    checked = functools.partial(checkify.checkify, errors=checkify.float_checks)
    both = functools.partial(jax.tree.map, lambda leaf: jnp.stack([leaf, leaf * 2]))
    found = {
        "forward": output(w, x),
        "gradients": jax.value_and_grad(loss, (0, 1))(w, x),
        "of one": jax.grad(jax.jit(loss))(w, x),
        "vmap": jax.vmap(output, (None, 0))(w, both(x)),
        "vmap of grad": jax.vmap(jax.grad(loss), (None, 0))(w, both(x)),
        "grad of vmap": jax.grad(lambda w: jax.vmap(loss, (0, None))(both(w), x).sum())(w),
        "remat": jax.grad(jax.checkpoint(loss), (0, 1))(w, x),
        "scan": jax.grad(
            lambda w: lax.scan(lambda h, _: (h + loss(w, x * h), h), 1.0, length=2)[1].sum()
        )(w),
        "cond": jax.grad(lambda x: lax.cond(x[0, 0, 0] < 9, loss, lambda w, x: x.sum(), w, x))(x),
        "while": lax.fori_loop(0, 2, lambda _, h: h + loss(w, x * h), 0.5),
        "closed over": jax.grad(lambda w: jax.jit(lambda x: loss(w, x))(x))(w),
        "checkify": checked(output)(w, x)[1],
        "checked gradient": checked(jax.grad(loss))(w, x)[1],
        "reverse over reverse": jax.grad(lambda x: (jax.grad(loss)(w, x) ** 2).sum())(x),
    }
    if forward:
        found |= {
            "jvp": jax.jvp(lambda w, x: first_of(output(w, x)), (w, x), (w, x)),
            "linearized": jax.linearize(loss, w, x)[1](w, x),
            "hessian": jax.hessian(lambda s: loss(w * s, x))(jnp.ones(())),
            "forward over reverse": jax.jvp(jax.grad(loss), (w, x), (w, x))[1],
        }
    return found


@pytest.mark.parametrize("name", CASES)
def test_under_every_transform_it_is_the_loop(name):
    fun, more, axes, forward, gradient, options = CASES[name]
    in_axes, out_axes = (None, 1, *axes), 0 if name == "keys" else 1
    mask = np.arange(3)[None] < LENGTHS[:, None] if options else None
    if "mask" in options:
        options = {"mask": mask}
    auto = time_distributed(fun, in_axes=in_axes, out_axes=out_axes)
    auto = functools.partial(auto, **options)
    prefer(forward, gradient, auto, WEIGHTS, CLIPS, *more)

    def plain(w, x, *rest):
        return loop(fun, (w, x, *rest), in_axes, out_axes, mask=mask)

    forward_mode = name != "rule"  # its rule is for reverse mode
    run = jax.jit(
        lambda *args: [transformed(each, *args, forward=forward_mode) for each in (auto, plain)]
    )
    found, expected = run(WEIGHTS, CLIPS, *more)
    for transform, right in expected.items():
        try:
            assert_same(found[transform], right, scale=10)
        except AssertionError as error:
            raise AssertionError(f"{transform}: {error}") from None
    # Each runs in its direction: the program of the other strategy would have as many loops.
    whole = functools.partial(time_distributed, fun, in_axes=in_axes, out_axes=out_axes)

    def change(strategy):
        run = functools.partial(whole(strategy=strategy), **options)
        return jax.grad(lambda w, x, *rest: first_of(run(w, x, *rest)).sum())

    args = WEIGHTS, CLIPS, *more
    assert loops_in(auto, *args) == loops_in(
        functools.partial(whole(strategy=forward), **options), *args
    )
    assert loops_in(change("auto"), *args) == loops_in(change(gradient), *args)
    assert "tdjax_custom_jvp_call" in names_in(auto, *args)


def test_outside_of_jit_nothing_is_traced_for_gradients():
    prefer(SCANNED, WRITTEN, time_distributed(dense, in_axes=(None, 1)), WEIGHTS, CLIPS)
    auto = time_distributed(dense, in_axes=(None, 1))
    with recorded() as decisions:
        found = auto(WEIGHTS, CLIPS)
    assert (decisions[0].strategy, decisions[0].gradient) == (SCANNED, None)
    assert_same(found, loop(dense, (WEIGHTS, CLIPS), (None, 1)))
    assert_same(
        jax.grad(lambda w: auto(w, CLIPS).sum())(WEIGHTS),
        jax.grad(lambda w: loop(dense, (w, CLIPS), (None, 1)).sum())(WEIGHTS),
    )


def test_a_linear_step_is_transposed():
    auto = time_distributed(lambda w, x, n: (x @ w, n), in_axes=(None, 1, 1))
    prefer(SCANNED, Vmap(), auto, WEIGHTS, CLIPS, COUNTS)

    def linear(run, x):
        return jax.linear_transpose(lambda x: run(WEIGHTS, x, COUNTS)[0], x)(x)

    plain = functools.partial(linear, lambda w, x, n: (x @ w, n))
    assert_same(jax.jit(functools.partial(linear, auto))(CLIPS), plain(CLIPS))


def test_it_is_exported_with_its_gradient():
    auto = time_distributed(dense, in_axes=(None, 1))
    prefer(SCANNED, Vmap(), auto, WEIGHTS, CLIPS)
    exported = jax.export.export(jax.jit(auto))(WEIGHTS, CLIPS)
    again = jax.export.deserialize(exported.serialize(vjp_order=1))
    found = jax.grad(lambda w: (again.call(w, CLIPS) ** 2).sum())(WEIGHTS)
    right = jax.grad(lambda w: (loop(dense, (w, CLIPS), (None, 1)) ** 2).sum())(WEIGHTS)
    assert_same(found, right)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_inside_shard_map_and_on_meshes(kind, check):
    mesh = jax.make_mesh((2, 1), ("data", "seq"), axis_types=(kind,) * 2)
    spec = PartitionSpec("data", None)
    auto = time_distributed(dense, in_axes=(None, 1))
    spread = time_distributed(dense, in_axes=(None, 1), partition=spec)

    def mapped(w, x):
        inside = jax.shard_map(
            auto, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec, check_vma=check
        )
        return inside(w, x)

    with jax.set_mesh(mesh):
        w = jax.device_put(WEIGHTS, jax.NamedSharding(mesh, PartitionSpec()))
        x = jax.device_put(CLIPS, jax.NamedSharding(mesh, spec))
        for run in (mapped, spread):
            prefer(SCANNED, Vmap(), run, w, x)
            assert "tdjax_custom_jvp_call" in names_in(run, w, x)
            gradient = jax.jit(jax.grad(lambda w, x, run=run: (run(w, x) ** 2).sum(), (0, 1)))
            found = jax.device_get((jax.jit(run)(w, x), gradient(w, x)))
            right = jax.device_get((dense(WEIGHTS, CLIPS), _gradient(WEIGHTS, CLIPS)))
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, right
            )


def _gradient(w, x):
    return jax.grad(lambda w, x: (dense(w, x) ** 2).sum(), (0, 1))(w, x)


# Where one program does.


def printing(w, x):
    jax.debug.print("{}", x[0, 0])
    return dense(w, x)


def calling(w, x):
    io_callback(lambda _: None, None, x[0, 0])
    return dense(w, x)


def in_place(w, x):
    held = jax.new_ref(x)
    held[...] = x + 1
    return dense(w, held[...])


@pytest.mark.parametrize(
    ("fun", "forward", "gradient", "options"),
    [
        (dense, SCANNED, SCANNED, {}),
        (dense, SCANNED, Fold(chunk_size=4, remat=True), {}),
        (dense, SCANNED, WRITTEN, {"strategy": Auto(mode="forward")}),
        (printing, SCANNED, Vmap(), {}),
        (calling, STEPS, Vmap(), {}),
        (in_place, STEPS, Vmap(), {}),
    ],
)
def test_one_program_is_that_of_its_strategy(fun, forward, gradient, options):
    auto = time_distributed(fun, in_axes=(None, 1), **options)
    prefer(forward, gradient, auto, WEIGHTS, CLIPS)
    (decision,) = decided(auto, WEIGHTS, CLIPS)
    chosen = decision.strategy
    assert decision.in_mode("grad").strategy == chosen
    asked = time_distributed(fun, in_axes=(None, 1), strategy=chosen)
    found, right = (str(program_of(run, WEIGHTS, CLIPS)) for run in (auto, asked))
    assert "custom_jvp" not in found
    if fun is dense:
        assert found == right


@pytest.mark.parametrize(
    ("forward", "gradient", "other", "runs"),
    [
        (SCANNED, Fold(chunk_size=6), 1.05, Fold(chunk_size=6)),
        (SCANNED, Fold(chunk_size=6), 2.0, SCANNED),
        (Fold(), Fold(chunk_size=6, unroll=True), 1.05, Fold()),
    ],
)
def test_what_is_level_forward_serves_both_unless_it_is_written_out_more(
    forward, gradient, other, runs
):
    auto = time_distributed(dense, in_axes=(None, 1))
    prefer(forward, gradient, auto, WEIGHTS, CLIPS, other=other)
    (decision,) = decided(auto, WEIGHTS, CLIPS)
    assert (decision.strategy, decision.gradient.strategy) == (runs, gradient)
    assert decision.predicted[0].strategy == runs


@pytest.mark.parametrize("name", ["dense", "rule", "packed", "mixing"])
def test_the_step_is_traced_three_times_at_most(name):
    fun, _, _, forward, gradient, options = CASES[name]
    count = []

    def counted(w, x):
        count.append(x.shape)
        return fun(w, x)

    auto = functools.partial(time_distributed(counted, in_axes=(None, 1)), **options)
    prefer(forward, gradient, auto, WEIGHTS, CLIPS)
    for run in (auto, jax.grad(lambda w, x: auto(w, x).sum())):
        count.clear()
        program_of(run, WEIGHTS, CLIPS)
        assert len(count) <= 3


def test_blocks_of_as_many_rows_as_a_step_has_take_no_further_trace():
    count = []

    def counted(w, x):
        count.append(x.shape)
        return dense(w, x)

    auto = time_distributed(counted, in_axes=(None, 1))
    own = Fold(chunk_size=CLIPS.shape[0], unroll=True)
    prefer(Fold(chunk_size=3), own, auto, WEIGHTS, CLIPS)
    count.clear()
    (decision,) = decided(auto, WEIGHTS, CLIPS)
    assert decision.gradient.strategy == own and len(set(count)) == len(count) == 2


def test_within_the_steps_of_another_call_one_does_and_proofs_hold():
    inner = time_distributed(lambda x: jnp.tanh(x @ WEIGHTS))
    outer = time_distributed(lambda x: inner(x) * 2)
    x = array(2, 3, 4, 3)
    prefer(SCANNED, WRITTEN, outer, x)
    found = explain(outer, x)
    assert found.rows_independent
    assert found.layers[0].gradient_strategy == found.layers[0].strategy

    def loss(run, x):
        return (run(x) ** 2).sum()

    got, right = (
        jax.jit(jax.value_and_grad(functools.partial(loss, run)))(x)
        for run in (outer, lambda x: jnp.tanh(x @ WEIGHTS) * 2)
    )
    assert_same(got, right)


def test_gradients_of_narrow_shared_arrays_are_added_up_in_float32():
    """In bfloat16, 2,048 gradients of about 1 would stop to add up at 256."""
    bias, x = jnp.zeros((), jnp.bfloat16), jnp.ones((64, 32), jnp.bfloat16)
    auto = time_distributed(lambda b, x: x * (b + 1), in_axes=(None, 1))
    prefer(Vmap(), Vmap(chunk_size=1), auto, bias, x)
    assert "tdjax_custom_jvp_call" in names_in(auto, bias, x)

    def summed(b, x):
        return auto(b, x).astype(jnp.float32).sum()

    assert jax.jit(jax.grad(summed))(bias, x) == 64 * 32


class Net(nn.Module):
    train: bool = True

    @nn.compact
    def __call__(self, x):
        td = tdjax.linen.TimeDistributed
        x = td(nn.Dense(3))(x)
        x = td(nn.BatchNorm(use_running_average=not self.train))(x)
        return td(nn.Dropout(0.5, deterministic=not self.train))(x)


@pytest.mark.parametrize("train", [True, False])
def test_linen_layers_with_statistics_and_noise(train):
    module, keys = Net(train), {"dropout": jax.random.key(3)}
    variables = Net(False).init(jax.random.key(0), CLIPS)

    def loss(params, x):
        held = {**variables, "params": params}
        output, changed = module.apply(held, x, rngs=keys, mutable=["batch_stats"])
        return (output**2).sum(), changed

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    right = run(variables["params"], CLIPS)
    prefer(SCANNED, WRITTEN, loss, variables["params"], CLIPS)
    jax.clear_caches()
    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    assert "tdjax_custom_jvp_call" in names_in(loss, variables["params"], CLIPS)
    assert_same(run(variables["params"], CLIPS), right, scale=10)


def test_nnx_layers():
    layer = tdjax.nnx.TimeDistributed(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(layer)

    def loss(state, x):
        return (nnx.merge(graph, state)(x) ** 2).sum()

    def plain(state, x):
        kernel, bias = state["layer"]["kernel"][...], state["layer"]["bias"][...]
        return ((x @ kernel + bias) ** 2).sum()

    prefer(SCANNED, WRITTEN, loss, state, CLIPS)
    assert "tdjax_custom_jvp_call" in names_in(loss, state, CLIPS)
    found, right = (jax.jit(jax.grad(run))(state, CLIPS) for run in (loss, plain))
    assert_same(found, right)


def test_both_fit_a_budget():
    auto = time_distributed(dense, in_axes=(None, 1), strategy=Auto(memory_budget=1000))
    prefer(SCANNED, WRITTEN, auto, WEIGHTS, CLIPS, sizes=(800, 900))
    (decision,) = decided(auto, WEIGHTS, CLIPS)
    assert (decision.strategy, decision.gradient.strategy) == (SCANNED, WRITTEN)
    prefer(SCANNED, WRITTEN, auto, WEIGHTS, CLIPS, sizes=(800, 2000))
    (decision,) = decided(auto, WEIGHTS, CLIPS)
    assert WRITTEN not in (decision.strategy, decision.gradient.strategy)


def test_both_are_explained_and_shown():
    auto = time_distributed(dense, in_axes=(None, 1))
    prefer(SCANNED, WRITTEN, auto, WEIGHTS, CLIPS)
    found = explain(auto, WEIGHTS, CLIPS)
    assert (found.strategy, found.gradient_strategy) == (SCANNED, WRITTEN)
    assert [each.strategy for each in found.candidates[:2]] == [SCANNED, WRITTEN]
    first = str(found).splitlines()[0]
    assert first == f"{SCANNED} will run, {WRITTEN} where differentiated."
    assert any(f"With gradients {WRITTEN} runs. It was measured" in each for each in found.reasons)
    model = explain(lambda w, x: auto(w, x) * 2, WEIGHTS, CLIPS)
    assert f"  {SCANNED} ({WRITTEN} with gradients)  It was measured" in str(model)
    assert pickle.loads(pickle.dumps(Auto())) == Auto()


def test_a_comparison_shows_what_ran_in_each_mode():
    prefer(SCANNED, WRITTEN, time_distributed(dense, in_axes=(None, 1)), WEIGHTS, CLIPS)
    compared = tdjax.compare(
        dense, WEIGHTS, CLIPS, in_axes=(None, 1), strategies=("vmap", "auto"), mode="both", rounds=2
    )
    chose = {each.mode: each.chose for each in compared.entries if each.strategy == "auto"}
    assert chose == {"forward": str(SCANNED), "grad": str(WRITTEN)}


def test_a_mode_that_was_not_measured_is_predicted():
    auto = time_distributed(dense, in_axes=(None, 1))
    prefer(None, WRITTEN, auto, WEIGHTS, CLIPS)
    found = explain(auto, WEIGHTS, CLIPS)
    assert (found.strategy, found.gradient_strategy) == (Fold(), WRITTEN)
