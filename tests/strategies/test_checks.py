"""`checkify`: what the loop reports, every strategy reports, or refuses by name."""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax import lax
from jax.experimental import checkify
from jax.extend.core import Primitive
from jax.sharding import NamedSharding, PartitionSpec

import tdjax
from tdjax import Fold, Vmap
from tdjax.core.checkable import Checkable
from tdjax.core.jaxpr import all_equations
from tdjax.strategies.choosing.directions import run_apart

KERNEL = np.ones((2, 2), np.float32)
BY_STEPS = [
    "vmap", "map", "unroll", "auto", Vmap(remat=True), Vmap(chunk_size=2, remat=True),
    Vmap(chunk_size=2, unroll=2),
]  # fmt: skip
BY_ROWS = ["fold", Fold(chunk_size=5), Fold(chunk_size=5, unroll=True), Fold(remat=True),
           Fold(chunk_size=5, remat=True)]  # fmt: skip


def all_positive(x):
    checkify.check((x > 0).all(), "the least is {least}", least=x.min())
    return x * 2


def rows_positive(x):
    def row(x):
        checkify.check(x.sum() > 0, "a row is negative")
        return x * 2

    return jax.vmap(row)(x)


def logarithm(x):
    return jnp.log(x) @ KERNEL


def lookup(x):
    return jnp.arange(4.0)[x.astype(jnp.int32)] * x


def division(x):
    return x / jnp.where(x > 0, 3.0, x)


# The step, the checks, and what is wrong for it.
REFUSED_BY_ROWS = {
    "user": (all_positive, checkify.user_checks, -1.0),
    "user a row": (rows_positive, checkify.user_checks, -9.0),
    "user among all": (all_positive, checkify.all_checks, -1.0),
}
CHECKED_BY_ALL = {
    "float": (logarithm, checkify.float_checks, -1.0),
    "index": (lookup, checkify.index_checks, 9.0),
    "division": (division, checkify.div_checks, 0.0),
    "all": (logarithm, checkify.all_checks, -1.0),
}
GOOD = np.abs(array(3, 4, 2)) + 1
LENGTHS = np.array([4, 2, 3], np.int32)


def with_bad(value):
    x = np.array(np.minimum(GOOD, 3))
    x[2, 1] = value
    return x.astype(np.float32)


def in_loop(step):
    return lambda x: jnp.stack([step(x[:, t]) for t in range(x.shape[1])], 1)


def distributed(step, strategy, masked):
    wrapped = tdjax.time_distributed(step, strategy=strategy)
    return (lambda x: wrapped(x, seq_lengths=LENGTHS)) if masked else wrapped


def summed(fun):
    return lambda x: fun(x).sum()


def reports(runs, errors, *inputs):
    """Return, for each input, what all functions and their gradients report."""

    def check(x):
        found = []
        for run in runs:
            found.append(checkify.checkify(run, errors=errors)(x)[0])
            found.append(checkify.checkify(jax.grad(summed(run)), errors=errors)(x)[0])
        return found

    compiled = jax.jit(check)
    return [[str(error.get()).split("\n")[0] for error in compiled(x)] for x in inputs]


@pytest.mark.parametrize("name", [*REFUSED_BY_ROWS, *CHECKED_BY_ALL])
def test_every_strategy_reports_what_the_loop_reports(name):
    by_rows = name in CHECKED_BY_ALL
    step, errors, wrong = (CHECKED_BY_ALL if by_rows else REFUSED_BY_ROWS)[name]
    inside = [*BY_STEPS, *(BY_ROWS if by_rows else [])]
    runs = [distributed(step, strategy, False) for strategy in inside]
    runs += [distributed(step, strategy, True) for strategy in ["auto", *["packed"] * by_rows]]
    good, bad = reports([in_loop(step), *runs], errors, with_bad(2.0), with_bad(wrong))
    assert good == ["None"] * len(good)
    assert bad[0] != "None"
    assert bad == [bad[0], bad[1]] * (1 + len(runs))


def convolve(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    return y[:, 0, 0]


# A step of shared weights, where nothing that is checked follows, and the shape of the weights.
WITH_WEIGHTS = {
    "convolution": (convolve, np.float32, (4, 4, 2), (3, 3, 2, 2)),
    "narrow convolution": (convolve, jnp.bfloat16, (4, 4, 2), (3, 3, 2, 2)),
    "narrow product": (lambda x, kernel: x @ kernel, jnp.bfloat16, (2,), (2, 2)),
}


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_what_our_own_operations_make_is_reported_as_the_loop_reports_it(name):
    step, dtype, features, shape = WITH_WEIGHTS[name]
    x, kernel = jnp.ones((3, 4, *features), dtype), jnp.ones(shape, dtype)
    cotangent = jnp.ones((3, 4, 2), dtype)
    opposite = jnp.array([jnp.inf, -jnp.inf], dtype)  # their sum is NaN

    def loop(kernel, x):
        return jnp.stack([step(x[:, t], kernel) for t in range(x.shape[1])], 1)

    def distributed(strategy, kernel, x):
        lengths = {"seq_lengths": LENGTHS} if strategy == "packed" else {}
        return tdjax.time_distributed(step, strategy=strategy, in_axes=(1, None))(
            x, kernel, **lengths
        )

    strategies = ("map", Vmap(chunk_size=3, remat=True), Fold(chunk_size=5), "packed")
    runs = [loop, *(functools.partial(distributed, strategy) for strategy in strategies)]

    def check(x, cotangent):
        found = []
        for run in runs:
            checked = checkify.checkify(run, errors=checkify.float_checks)
            found.append(checked(kernel, x)[0])

            def pulled_back(kernel, x, run=run):
                return jax.vjp(run, kernel, x)[1](cotangent)

            checked = checkify.checkify(pulled_back, errors=checkify.float_checks)
            found.append(checked(kernel, x)[0])
        return found

    compiled = jax.jit(check)

    def reported(*inputs):
        return [str(error.get()).split("\n")[0] for error in compiled(*inputs)]

    by = "dot_general" if name == "narrow product" else "conv_general_dilated"
    nan = f"nan generated by primitive: {by}."
    assert reported(x, cotangent) == ["None"] * 2 * len(runs)
    assert reported(x.at[2, 1].set(opposite), cotangent) == [nan] * 2 * len(runs)
    assert reported(x, cotangent.at[2, 1].set(opposite)) == ["None", nan] * len(runs)


def test_every_primitive_of_ours_is_checked_as_what_computes_it():
    """Those that programs have are all that there are, and each says what computes it."""
    defined = set()
    for path in Path(tdjax.__file__).parent.rglob("*.py"):
        if "Primitive" in path.read_text() or "checkable" in path.read_text():
            name = ".".join(("tdjax", *path.relative_to(Path(tdjax.__file__).parent).parts))
            held = vars(importlib.import_module(name.removesuffix(".py"))).values()
            defined |= {each for each in held if isinstance(each, Primitive)}
    defined -= {each for each in vars(lax).values() if isinstance(each, Primitive)}
    assert len(defined) >= 5 and all(isinstance(each, Checkable) for each in defined)

    def scaled(x, kernel, scale):
        window, step = (1, 2), (1, 1)

        def pool(x):
            return lax.reduce_window(x, -jnp.inf, lax.max, window, step, "SAME")

        convolved = convolve(x, kernel)
        return (pool(convolved) + jax.grad(lambda x: pool(x).sum())(convolved)) * scale

    place = NamedSharding(jax.make_mesh((1,), ("batch",)), PartitionSpec("batch"))

    def run(kernel, scale, x):
        blocks, written_out, packed = (
            tdjax.time_distributed(scaled, **options, in_axes=(1, None, None))
            for options in (
                {"strategy": Vmap(chunk_size=3), "partition": place},
                {"strategy": "unroll"},
                {"strategy": "packed"},
            )
        )
        given = x, kernel, scale
        return blocks(*given) + written_out(*given) + packed(*given, seq_lengths=LENGTHS)

    def tangent(*args):
        return jax.jvp(run, args, args)

    ours = []
    for dtype in (jnp.float32, jnp.bfloat16):
        specs = [
            jax.ShapeDtypeStruct(shape, dtype) for shape in ((3, 3, 2, 2), (1, 2), (3, 4, 4, 4, 2))
        ]
        equations = all_equations(jax.make_jaxpr(tangent)(*specs))
        ours += [eqn for eqn in equations if eqn.primitive in defined]

    def in_both_directions(x):
        return run_apart([x], lambda given: given[0] * 2, lambda given: given[0] + given[0])

    ours += jax.make_jaxpr(in_both_directions)(jnp.ones(3)).eqns
    assert {eqn.primitive for eqn in ours} == defined
    for eqn in ours:
        program = eqn.params["call_jaxpr"]
        if eqn.params.get("fails"):
            with pytest.raises(tdjax.StrategyError):
                program.debug_info  # noqa: B018
            continue
        assert program.debug_info is not None
        types = [atom.aval.strip_weak_type() for atom in program.outvars]
        assert types == [atom.aval.strip_weak_type() for atom in eqn.outvars], eqn.primitive


@pytest.mark.parametrize("strategy", [*BY_ROWS, "packed"], ids=str)
@pytest.mark.parametrize("step", [all_positive, rows_positive])
def test_what_sees_rows_of_many_steps_refuses_the_checks_of_a_step(strategy, step):
    run = checkify.checkify(distributed(step, strategy, strategy == "packed"))
    with pytest.raises(tdjax.StrategyError, match=r"`check` at|mix|rows"):
        jax.eval_shape(run, GOOD)


@pytest.mark.parametrize("strategy", ["map", "packed"])
def test_jit_inside_of_checkify_and_tangents(strategy):
    run = jax.jit(distributed(logarithm, strategy, True))
    x = with_bad(-1.0)
    assert "nan generated" in checkify.checkify(run, errors=checkify.float_checks)(x)[0].get()

    def tangent(x):  # finite values, and 0 / 0 in the derivative
        root = distributed(lambda x: jnp.sqrt(x * x), strategy, True)
        return jax.jvp(root, (x,), (jnp.ones_like(x),))

    error, _ = checkify.checkify(jax.jit(tangent), errors=checkify.float_checks)(with_bad(0.0))
    assert "division by zero" in error.get()


def test_packed_steps_at_once_are_checked(at_once):
    with at_once():
        run = checkify.checkify(
            jax.jit(distributed(logarithm, "packed", True)), errors=checkify.float_checks
        )
        found = [run(x)[0].get() for x in (GOOD, with_bad(-1.0))]
    assert found[0] is None and "nan generated" in found[1]


def test_a_check_that_fails_outside_of_checkify_raises():
    run = tdjax.time_distributed(all_positive, strategy="map")
    run(GOOD)
    with pytest.raises(checkify.JaxRuntimeError, match=r"the least is -1\.0"):
        run(with_bad(-1.0))


def test_what_a_carried_state_sees_is_checked():
    from flax import nnx

    import tdjax.nnx

    class Counts(nnx.Module):
        def __init__(self):
            self.total = nnx.Variable(jnp.zeros(2))

        def __call__(self, x):
            checkify.check((x > 0).all(), "negative")
            self.total[...] = self.total[...] + x.sum(0)
            return x * 2

    graph, state = nnx.split(tdjax.nnx.TimeDistributed(Counts(), state="carry"))

    def run(x):
        return nnx.merge(graph, state, copy=True)(x).sum()

    assert reports([run], checkify.user_checks, GOOD, with_bad(-1.0)) == [
        ["None"] * 2,
        ["negative (`check` failed)"] * 2,
    ]
