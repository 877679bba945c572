"""Recurrent nets and state space layers over an axis of their own, inside a step."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from real_programs.book import Shared, lengths, program, rows, weights

LETTERS = rows(6, 4)


def over(x):
    return jnp.moveaxis(x, 1, 0)


@program(LETTERS, weights(4, 12), weights(3, 12))
def long_short_term_memory(x, inner, recurrent):
    def cell(carry, letter):
        hidden, memory = carry
        i, f, g, o = jnp.split(letter @ inner + hidden @ recurrent, 4, -1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
        return (hidden, memory), hidden

    start = jnp.zeros((x.shape[0], 3)), jnp.zeros((x.shape[0], 3))
    final, states = jax.lax.scan(cell, start, over(x))
    return final, over(states)


def _of_flax(module):
    return module, jax.jit(module.init)(jax.random.key(0), np.ones((1, 6, 4), np.float32))


LSTM, LSTM_VARIABLES = _of_flax(nn.RNN(nn.LSTMCell(3), return_carry=True))
BOTH, BOTH_VARIABLES = _of_flax(nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.GRUCell(3))))
GRAPH, STATE = nnx.split(
    nnx.jit(lambda: nnx.RNN(nnx.GRUCell(4, 3, rngs=nnx.Rngs(0)), return_carry=True))()
)


@program(Shared(LSTM_VARIABLES), LETTERS, lengths(6))
def recurrent_net_of_flax(variables, x, lengths):
    return LSTM.apply(variables, x, seq_lengths=lengths)


@program(Shared(BOTH_VARIABLES), LETTERS, lengths(6))
def bidirectional_net_of_flax(variables, x, lengths):
    return BOTH.apply(variables, x, seq_lengths=lengths)


@program(Shared(STATE), LETTERS, lengths(6))
def recurrent_net_of_nnx(state, x, lengths):
    start = jnp.zeros((x.shape[0], 3))
    return nnx.merge(GRAPH, state)(x, seq_lengths=lengths, initial_carry=start)


@program(rows(8, 3), weights(3, 3), weights(3, 2), weights(3, 2, seed=2), weights(3, 2, seed=3))
def selective_scan(x, dt, a, b, c):
    step = jax.nn.softplus(x @ dt)
    decay = jnp.exp(-step[..., None] * jnp.exp(a))
    inputs = (step * x)[..., None] * (x @ b)[:, :, None]

    def combine(first, second):
        return first[0] * second[0], first[1] * second[0] + second[1]

    states = jax.lax.associative_scan(combine, (decay, inputs), axis=1)[1]
    return jnp.einsum("bldn,bln->bld", states, x @ c)


@program(rows(8, 3), weights(3, 4), weights(3, 4, seed=2))
def diagonal_state_space(x, decay, read):
    """Convolve with the kernel of a diagonal system, by Fourier transforms."""
    powers = jnp.exp(-jnp.exp(decay)[..., None] * jnp.arange(8))
    kernel = jnp.einsum("dn,dnl->dl", read, powers)
    spectrum = jnp.fft.rfft(x, 16, axis=1) * jnp.fft.rfft(kernel, 16).T
    return jnp.fft.irfft(spectrum, 16, axis=1)[:, :8]


@program(rows(5, 4), weights(3, 4, 4))
def scanned_layers_rematerialized(x, kernels):
    @jax.checkpoint
    def layer(x, kernel):
        scores = jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2), -1)
        return x + scores @ x @ kernel, None

    return jax.lax.scan(layer, x, kernels)[0]


@program(rows(4), weights(4, 4), Shared(jnp.int32(3)))
def repeated_a_shared_number_of_times(x, kernel, count):
    return jax.lax.stop_gradient(
        jax.lax.while_loop(
            lambda c: c[0] < count, lambda c: (c[0] + 1, jnp.tanh(c[1] @ kernel)), (0, x)
        )[1]
    )
