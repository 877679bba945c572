"""What goes wrong in a call of the Linen wrapper says where, and what was needed."""

from __future__ import annotations

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax_cases import assert_close, data

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(0)
BATCH, TIME = 4, 5


class Noisy(nn.Module):
    """A wrapped layer that draws from a stream, two levels down."""

    def setup(self):
        self.head = TimeDistributed(nn.Dropout(0.5, deterministic=False))

    def __call__(self, x):
        return self.head(x)


@pytest.mark.parametrize("transform", [lambda apply: apply, jax.jit], ids=["eager", "jit"])
def test_a_missing_stream_is_flax_own_error_with_the_wrapper_in_a_note(transform):
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"') as caught:
        transform(Noisy().apply)({}, data())
    (note,) = (note for note in caught.value.__notes__ if "tdjax" in note)
    assert "tdjax.linen.TimeDistributed of Dropout at head/layer" in note
    assert "rngs={'dropout': key}" in note


def test_an_error_of_the_layer_passes_through_as_it_is():
    class Failing(nn.Module):
        def __call__(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        TimeDistributed(Failing()).apply({}, data())
    assert not any("tdjax" in note for note in getattr(caught.value, "__notes__", ()))


@pytest.mark.parametrize(
    ("real", "error", "message"),
    [
        ({"mask": jnp.ones((BATCH, TIME + 1), bool)}, ValueError, r"bool\[4,6\].*bool\[4,5\]"),
        ({"mask": jnp.ones((TIME, BATCH), bool)}, ValueError, r"bool\[5,4\].*bool\[4,5\]"),
        ({"mask": jnp.ones(TIME, bool)}, ValueError, r"bool\[5\].*bool\[4,5\]"),
        ({"mask": jnp.ones((BATCH, TIME))}, TypeError, r"float32\[4,5\].*bool"),
        ({"seq_lengths": jnp.ones(TIME, int)}, ValueError, r"int32\[5\].*int\[4\]"),
        ({"seq_lengths": jnp.ones((BATCH, 1), int)}, ValueError, r"int32\[4,1\].*int\[4\]"),
        ({"seq_lengths": jnp.ones(BATCH)}, TypeError, r"float32\[4\].*ints"),
        ({"seq_lengths": jnp.array([1, 6, 2, 0])}, ValueError, r"seq_lengths\[1\] is 6.*5"),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_masks_that_do_not_fit(real, error, message, axis):
    wrapper = TimeDistributed(nn.Dense(3), in_axes=axis, out_axes=axis)
    x = jnp.moveaxis(data(), 1, axis)
    variables = wrapper.init(KEY, x)
    for call in (lambda: wrapper.init(KEY, x, **real), lambda: wrapper.apply(variables, x, **real)):
        with pytest.raises(error, match=message):
            call()


def test_a_layer_bound_to_variables_is_refused_wherever_it_is_put():
    variables = nn.Dense(3).init(KEY, data()[:, 0])
    bound = nn.Dense(3).bind(variables)

    class Parent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return TimeDistributed(bound)(x)

    with pytest.raises(TypeError, match=r"\.bind\(\).*\.apply"):
        Parent().init(KEY, data())
    with pytest.raises(TypeError, match=r"\.bind\(\)"):
        TimeDistributed(bound, strategy="fold")
    with pytest.raises(TypeError, match="class Dense"):
        TimeDistributed(nn.Dense, strategy="fold")


@pytest.mark.parametrize("strategy", ["vmap", "fold", "auto"])
def test_out_axes_of_another_structure_are_those_of_the_caller(strategy):
    variables = TimeDistributed(nn.Dense(3)).init(KEY, data())
    wrapper = TimeDistributed(nn.Dense(3), out_axes=(1, 0), strategy=strategy)
    for call in (lambda: wrapper.init(KEY, data()), lambda: wrapper.apply(variables, data())):
        with pytest.raises(ValueError, match="for Dense, out_axes has a tuple of 2 where the outp"):
            call()


class Holding(nn.Module):
    def setup(self):
        self.head = TimeDistributed(nn.Dense(3))

    def __call__(self, x):
        return self.head(x)


@pytest.mark.parametrize(
    ("layer", "held"),
    [
        (nn.Dense(3), "params holds '(kernel|bias)'"),
        (nn.BatchNorm(use_running_average=True), "batch_stats holds '(mean|var)'"),
        (nn.Sequential([nn.Dense(3)]), "params holds 'layers_0'"),
    ],
)
def test_the_variables_of_a_layer_by_itself_are_told_from_those_of_its_wrapper(layer, held):
    variables = layer.init(KEY, data()[:, 0])
    wrapper = TimeDistributed(layer)
    with pytest.raises(ValueError, match=rf"under the name 'layer'.*{held}.*wrapper_variables"):
        wrapper.apply(variables, data())
    expected = jnp.stack([layer.apply(variables, data()[:, t]) for t in range(TIME)], axis=1)
    given = tdjax.linen.wrapper_variables(variables)
    assert_close(wrapper.apply(given, data()), expected)


def test_the_same_is_told_of_a_wrapper_in_a_parent():
    bare = nn.Dense(3).init(KEY, data()[:, 0])
    with pytest.raises(ValueError, match=r"TimeDistributed\(Dense\) at head keeps"):
        Holding().apply({"params": {"head": bare["params"]}}, data())


def test_missing_variables_are_flax_own_error():
    with pytest.raises(flax.errors.ScopeCollectionNotFound):
        TimeDistributed(nn.Dense(3)).apply({}, data())


def test_a_method_of_a_module_that_is_not_run_is_refused():
    with pytest.raises(TypeError, match=r"method of Noisy.*submodule"):
        TimeDistributed(Noisy().__call__).apply({}, data(), rngs={"dropout": KEY})
    bound = nn.Embed(3, 6).bind({"params": {"embedding": jnp.ones((3, 6))}})
    assert TimeDistributed(bound.attend).apply({}, data()).shape == (BATCH, TIME, 3)


def test_steps_of_different_number_name_their_arguments():
    class Two(nn.Module):
        def __call__(self, video, sound):
            return video + sound

    with pytest.raises(ValueError, match=r"video is .*: 5 steps.*\n *sound is .*: 3 steps"):
        TimeDistributed(Two()).apply({}, data(), data()[:, :3])


def test_strategies_that_cannot_say_so_before_anything_runs():
    ran = []

    class Centered(nn.Module):
        def __call__(self, x):
            jax.debug.callback(lambda: ran.append(1))
            return x - x.mean(0)

    for strategy in ("fold", tdjax.Fold(chunk_size=3)):
        with pytest.raises(tdjax.StrategyError, match=r"Centered.*\"vmap\""):
            TimeDistributed(Centered(), strategy=strategy).apply({}, data())
    jax.effects_barrier()
    assert not ran
