"""What someone who moves over would write first, where it used to go wrong."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array
from flax import nnx

import tdjax
from tdjax.linen import TimeDistributed
from tdjax.testing import assert_same_as_loop

KEY = jax.random.key(0)
LENGTHS = jnp.array([5, 3, 1])


class Trained(nn.Module):
    """Batch normalization and noise together."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


@pytest.mark.parametrize("strategy", ["auto", "fold"])
def test_batch_norm_and_dropout_train_with_lengths_over_nan_padding(strategy):
    x = array(3, 5, 4)
    padded = np.array(x)
    padded[1, 3:] = padded[2, 1:] = np.nan
    variables = TimeDistributed(Trained()).init(KEY, x)
    output, updates = TimeDistributed(Trained(), strategy=strategy).apply(
        variables,
        padded,
        train=True,
        seq_lengths=LENGTHS,
        mutable=["batch_stats"],
        rngs={"dropout": KEY},
    )
    x, output = np.asarray(x), np.asarray(output)
    real = np.concatenate([x[0], x[1, :3], x[2, :1]])
    mean = updates["batch_stats"]["layer"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.01 * real.mean(0), atol=1e-6)
    assert np.isfinite(output).all() and not output[1, 3:].any()


def test_the_mask_of_attention_is_not_that_of_time():
    x = array(3, 5, 3, 8)
    attention = TimeDistributed(nn.MultiHeadDotProductAttention(2))
    variables = jax.jit(attention.init)(KEY, x)
    masked = np.asarray(attention.apply(variables, x, seq_lengths=LENGTHS))
    unmasked = np.asarray(attention.apply(variables, x))
    np.testing.assert_allclose(masked[1, :3], unmasked[1, :3], atol=1e-6)


@pytest.mark.parametrize("given", ["None at its place", "text"])
def test_a_layer_without_time_is_not_told_of_an_option_of_functions(given):
    x, axes = (array(3, 5, 4), None) if given != "text" else ("text", 1)
    linear = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    wrapped = tdjax.nnx.TimeDistributed(linear, in_axes=axes)
    calls = (
        lambda: TimeDistributed(nn.Dense(2), in_axes=axes).init(KEY, x),
        lambda: wrapped(x),
        lambda: assert_same_as_loop(nn.Dense(2), x, in_axes=axes),
        lambda: assert_same_as_loop(linear, x, in_axes=axes),
    )
    titles = ("Dense", "Linear", "Dense", "Linear")
    for call, title in zip(calls, titles, strict=True):
        with pytest.raises(ValueError, match=r"inputs (has None|is 'text')") as caught:
            call()
        assert str(caught.value).startswith(f"{title} was given no array to step over: inputs ")
        assert "axis_size" not in str(caught.value)


def test_each_wrapper_names_the_other():
    with pytest.raises(TypeError, match=r"use tdjax\.nnx\.TimeDistributed"):
        TimeDistributed(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"use tdjax\.linen\.TimeDistributed"):
        tdjax.nnx.TimeDistributed(nn.Dense(3))


def test_a_wrapper_without_variables_says_how_to_get_them():
    with pytest.raises(TypeError, match=r"\.init\(rngs, x\) and \.apply\(variables, x\)"):
        TimeDistributed(nn.Dense(3))(jnp.ones((3, 5, 4)))


def attentions():
    linen = TimeDistributed(nn.MultiHeadDotProductAttention(2))
    x = array(3, 5, 4, 8)
    variables = jax.jit(linen.init)(KEY, x)
    net = nnx.MultiHeadAttention(2, in_features=8, decode=False, rngs=nnx.Rngs(0))
    yield lambda x, **given: linen.apply(variables, x, **given), x
    yield tdjax.nnx.TimeDistributed(net), x


@pytest.mark.parametrize("kind", [0, 1], ids=["linen", "nnx"])
def test_a_mask_with_more_axes_is_the_layers_own(kind):
    attention, x = list(attentions())[kind]
    causal = np.broadcast_to(np.tril(np.ones((4, 4), bool)), (3, 5, 1, 4, 4))
    real = np.arange(5) < np.asarray(LENGTHS)[:, None]
    mask = jax.device_put(causal & real[:, :, None, None, None])
    altered = np.array(x)
    altered[:, :, 3] = 1.0
    output, changed = (np.asarray(attention(x, mask=mask)) for x in (x, jax.device_put(altered)))
    np.testing.assert_allclose(output[:, :, :3], changed[:, :, :3], atol=1e-6)
    assert (np.abs(output[0, :, 3] - changed[0, :, 3]) > 1e-4).any()
    assert not output[1, 3:].any()
    unmasked = np.asarray(attention(x, seq_lengths=LENGTHS))
    assert (np.abs(output[0, :, 0] - unmasked[0, :, 0]) > 1e-4).any()
