"""Keras' arrays as Flax's variables.

What Keras keeps in one list, `[gamma, beta, moving_mean, moving_variance]`, Flax keeps by name and
by collection. All of it is renaming and splitting, so that it turns gradients into gradients too.
"""

from __future__ import annotations

import jax.numpy as jnp


def kernel_and_bias(kernel, bias):
    """Dense and convolutions: both have channels last, in the data and in the kernels."""
    return {"params": {"kernel": kernel, "bias": bias}}


def kernel_alone(kernel):
    """A layer with `use_bias=False`."""
    return {"params": {"kernel": kernel}}


def batch_norm(scale, bias, mean, var):
    """Keras' epsilon is 1e-3 and Flax's is 1e-5: that is for the layer to say."""
    return {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}


def embedding(table):
    """The row 0 that `mask_zero=True` masks is a row like the others."""
    return {"params": {"embedding": table}}


def lstm_cell(kernel, recurrent, bias):
    """Keras' gates i, f, c, o side by side are Flax's i, f, g, o apart; the bias sits at `h`."""
    params = {}
    for index, gate in enumerate("ifgo"):
        ours, theirs, offset = (jnp.split(a, 4, axis=-1)[index] for a in (kernel, recurrent, bias))
        params["i" + gate] = {"kernel": ours}
        params["h" + gate] = {"kernel": theirs, "bias": offset}
    return {"params": params}


def nnx_lstm_cell(kernel, recurrent, bias):
    """NNX's optimized cell has the gates side by side, as Keras."""
    return {"dense_i": {"kernel": kernel}, "dense_h": {"kernel": recurrent, "bias": bias}}


def nest(**parts):
    """Put the variables of submodules under their names."""
    variables = {}
    for name, part in parts.items():
        for collection, tree in part.items():
            variables.setdefault(collection, {})[name] = tree
    return variables


def as_nnx(variables):
    """An NNX module holds its parameters and its statistics side by side."""
    return {name: leaf for tree in variables.values() for name, leaf in tree.items()}
