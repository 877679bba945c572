"""One table of Linen layers, with what a few steps of their arguments look like."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax_cases import Holder

BATCH, TIME = 3, 2  # six rows: blocks of four cut steps in two and leave a remainder
BELOW = 5  # integers in arguments are at least 0 and less than this


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer, and how it is called.

    Attributes:
        name: what a test's id says.
        make: builds the layer.
        inputs: the positional arguments of one step, without the batch, as `ShapeDtypeStruct`s.
        kwargs: passed to every call.
        draws: whether the layer draws noise, from the stream "dropout".
        takes_mask: whether it has a parameter `mask`, for its step's part of the mask.
        refused: why a fold cannot run it, as a regular expression for the error; None if it can.
    """

    name: str
    make: Callable[[], Any]
    inputs: tuple
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    draws: bool = False
    takes_mask: bool = False
    refused: str | None = None

    def arguments(self, batch: int = BATCH, time: int = TIME) -> tuple:
        """Return the positional arguments of the wrapper, each `(batch, time, ...)`."""
        rng = np.random.default_rng([batch, time])

        def array(leaf: Any) -> Any:
            shape = (batch, time, *leaf.shape)
            if leaf.dtype == jnp.int32:
                return jax.device_put(rng.integers(0, BELOW, shape).astype(leaf.dtype))
            return jax.device_put(rng.normal(size=shape).astype(leaf.dtype))

        return jax.tree.map(array, self.inputs)

    def variables(self, batch: int = BATCH) -> Any:
        """Return variables, none of them at a value such as 0 or 1 that hides what it does."""
        step = jax.tree.map(lambda leaf: rows(batch, *leaf.shape, dtype=leaf.dtype), self.inputs)
        keys = {name: jax.random.key(0) for name in ("params", "dropout")}
        init = functools.partial(Holder(self.make()).init, keys, method=call_layer, **self.kwargs)
        shapes = jax.eval_shape(init, *step)
        rng = np.random.default_rng(0)

        def value(path: tuple, leaf: Any) -> Any:
            lowest = -0.9 if path[0].key == "params" else 0.1  # a variance is positive
            return jax.device_put(rng.uniform(lowest, 0.9, leaf.shape).astype(leaf.dtype))

        return jax.tree_util.tree_map_with_path(value, shapes)

    def step(self, variables: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the layer on one step, with that step's own key."""
        module = Holder(self.make())
        rngs = {"dropout": key} if self.draws else None
        return module.apply(variables, *args, rngs=rngs, method=call_layer, **self.kwargs, **kwargs)


def call_layer(holder: Holder, *args: Any, **kwargs: Any) -> Any:
    """Call the submodule `layer`, whatever it takes."""
    return holder.layer(*args, **kwargs)


def rows(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Describe an argument of one step, usually without its batch."""
    return jax.ShapeDtypeStruct(shape, dtype)


class Two(nn.Module):
    """Two inputs, two outputs."""

    @nn.compact
    def __call__(self, query, scale):
        hidden = nn.Dense(3)(query) * scale[:, None]
        return hidden, jnp.tanh(hidden).sum(-1)


class Tree(nn.Module):
    """Dictionaries and lists in and out, one entry of them None."""

    @nn.compact
    def __call__(self, inputs, *, flip=False):
        image, code = inputs["image"], inputs["pair"][0]
        hidden = nn.Conv(3, (2, 2))(image).mean((1, 2)) + nn.Embed(BELOW, 3)(code)
        return {"hidden": -hidden if flip else hidden, "rest": [code + 1, None]}


class Encoder(nn.Module):
    """A module that holds modules, made in `setup`; one of them is called twice."""

    def setup(self):
        self.shared = nn.Dense(6)
        self.heads = {"a": nn.Dense(2), "b": [nn.Dense(1)]}

    def __call__(self, x):
        x = self.shared(jnp.tanh(self.shared(x)))
        return {"a": self.heads["a"](x), "b": self.heads["b"][0](x)}


class Residual(nn.Module):
    """A module that makes modules as it is called, and keeps a parameter of its own."""

    activation: Callable[..., Any] = jnp.tanh

    @nn.compact
    def __call__(self, x, train=False):
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        hidden = nn.Dropout(0.4, deterministic=not train)(self.activation(x))
        return x + scale * Encoder()(hidden)["b"]


class Attend(nn.Module):
    """Self attention over an inner axis, in which padded elements are not seen."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x, lengths, deterministic=True):
        seen = jnp.arange(x.shape[1]) < 1 + lengths[:, None]
        attention = nn.MultiHeadDotProductAttention(2, dropout_rate=self.rate)
        return attention(x, mask=seen[:, None, None, :], deterministic=deterministic)


class Recurrent(nn.Module):
    """A recurrent layer over an inner axis, given how long its sequences are."""

    cell: nn.Module
    return_carry: bool = False

    @nn.compact
    def __call__(self, x, lengths):
        return nn.RNN(self.cell, return_carry=self.return_carry)(x, seq_lengths=lengths)


class Cell(nn.Module):
    """One step of a recurrent cell, whose carry comes in and goes out."""

    @nn.compact
    def __call__(self, carry, x):
        return nn.OptimizedLSTMCell(3)(carry, x)


class Gate(nn.Module):
    """A layer that takes its step's part of the mask."""

    @nn.compact
    def __call__(self, x, mask=None):
        hidden = nn.Dense(3)(x)
        if mask is None:
            return hidden, jnp.zeros(x.shape[0])
        return jnp.where(mask[:, None], hidden, 2.0 * hidden), mask.astype(x.dtype)


class Noise(nn.Module):
    """Noise that no layer of Flax draws, and a split of the key."""

    @nn.compact
    def __call__(self, x):
        first, second = jax.random.split(self.make_rng("dropout"))
        x = nn.Dense(3)(x + jax.random.normal(first, x.shape))
        return x * jax.random.bernoulli(second, 0.5, x.shape)


class NormOfRow(nn.Module):
    """No parameter at all, and no gradient at zero."""

    def __call__(self, x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class Block(nn.Module):
    """A layer as `nn.scan` takes it."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x, _):
        hidden = nn.Dropout(self.rate, deterministic=False)(nn.Dense(6)(x))
        return x + jnp.tanh(hidden), None


class Deep(nn.Module):
    """A scan over depth."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x):
        blocks = nn.scan(
            Block,
            length=2,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
        )
        return blocks(self.rate)(x, None)[0]


class Lifted(nn.Module):
    """Flax's own transforms inside a step: a checkpoint with noise, an ensemble, jit."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.remat(Residual, static_argnums=(2,))()(x, train)
        many = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=1,
            axis_size=2,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        return nn.jit(nn.LayerNorm)()(many(3)(x))


class Branches(nn.Module):
    """One of two layers, by a parameter."""

    @nn.compact
    def __call__(self, x):
        which = self.param("which", nn.initializers.ones, ()) > 0
        layers = nn.Dense(3, name="one"), nn.Dense(3, name="other")
        if self.is_initializing():
            return layers[0](x) + layers[1](x)
        branches = [lambda _, x, i=i: layers[i](x) for i in (0, 1)]
        return nn.cond(which, *branches, self, x)


class Unlike(nn.Module):
    """Rows that see their neighbors."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x - x.mean(0))


FEATURES = (rows(6),)
WORDS = (rows(3, 4),)
IMAGES = (rows(4, 5, 2),)

LAYERS = (
    LayerCase("dense", lambda: nn.Dense(3), FEATURES),
    LayerCase(
        "dense of numbers", lambda: nn.Sequential([lambda x: x[:, None], nn.Dense(2)]), (rows(),)
    ),
    LayerCase(
        "dense in bfloat16",
        lambda: nn.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16),
        (rows(6, dtype=jnp.bfloat16),),
    ),
    LayerCase("dense general", lambda: nn.DenseGeneral((2, 3), axis=(-2, -1)), WORDS),
    LayerCase("dense general, a kernel a row", lambda: nn.DenseGeneral(2, batch_dims=0), WORDS),
    LayerCase("conv 1d", lambda: nn.Conv(4, 2, strides=2, feature_group_count=2), WORDS),
    LayerCase("conv 2d", lambda: nn.Conv(4, (3, 2), strides=(2, 1)), IMAGES),
    LayerCase(
        "conv 2d, dilated in groups",
        lambda: nn.Conv(4, (2, 2), kernel_dilation=2, feature_group_count=2, padding="VALID"),
        IMAGES,
    ),
    LayerCase("conv 3d", lambda: nn.Conv(2, (2, 2, 2), strides=(1, 2, 1)), (rows(2, 3, 2, 2),)),
    LayerCase("conv local", lambda: nn.ConvLocal(2, (2, 2)), IMAGES),
    LayerCase("conv transpose", lambda: nn.ConvTranspose(2, (3, 3), strides=(2, 2)), IMAGES),
    LayerCase("max pool", lambda: lambda x: nn.max_pool(x, (2, 2), (1, 2)), IMAGES),
    LayerCase("batch norm", lambda: nn.BatchNorm(use_running_average=True), IMAGES),
    LayerCase(
        "batch norm, told by the call",
        lambda: nn.BatchNorm(axis=1),
        IMAGES,
        kwargs={"use_running_average": True},
    ),
    LayerCase("layer norm", lambda: nn.LayerNorm(reduction_axes=(1, 2)), WORDS),
    LayerCase("group norm", lambda: nn.GroupNorm(2), (rows(3, 2, 4),)),
    LayerCase("RMS norm", lambda: nn.RMSNorm(), FEATURES),
    LayerCase(
        "spectral norm",
        lambda: nn.SpectralNorm(nn.Dense(3)),
        FEATURES,
        kwargs={"update_stats": False},
    ),
    LayerCase("PReLU", lambda: nn.PReLU(), FEATURES),
    LayerCase("dropout", lambda: nn.Dropout(0.4, deterministic=False), FEATURES, draws=True),
    LayerCase(
        "dropout, one noise for all rows",
        lambda: nn.Dropout(0.4, broadcast_dims=(0, 1)),
        WORDS,
        kwargs={"deterministic": False},
        draws=True,
    ),
    LayerCase("embed", lambda: nn.Embed(BELOW, 3), (rows(dtype=jnp.int32),)),
    LayerCase("attention", lambda: nn.MultiHeadDotProductAttention(2), WORDS),
    LayerCase(
        "attention with dropout, one noise for all rows",
        lambda: nn.MultiHeadDotProductAttention(2, dropout_rate=0.4),
        WORDS,
        kwargs={"deterministic": False},
        draws=True,
    ),
    LayerCase(
        "attention with dropout",
        lambda: nn.MultiHeadAttention(2, dropout_rate=0.4, broadcast_dropout=False),
        (rows(3, 4), rows(2, 4)),
        kwargs={"deterministic": False},
        draws=True,
    ),
    LayerCase("attention to some", Attend, (rows(4, 4), rows(dtype=jnp.int32))),
    LayerCase("GRU", lambda: nn.RNN(nn.GRUCell(3), reverse=True, keep_order=True), WORDS),
    LayerCase(
        "bidirectional",
        lambda: nn.Bidirectional(nn.RNN(nn.SimpleCell(3)), nn.RNN(nn.SimpleCell(2))),
        WORDS,
    ),
    LayerCase(
        "LSTM over some", lambda: Recurrent(nn.LSTMCell(3)), (rows(4, 2), rows(dtype=jnp.int32))
    ),
    LayerCase(
        "LSTM over some, with its last carry",
        lambda: Recurrent(nn.SimpleCell(3), return_carry=True),
        (rows(4, 2), rows(dtype=jnp.int32)),
    ),
    LayerCase("cell", Cell, ((rows(3), rows(3)), rows(6))),
    LayerCase(
        "conv cell", lambda: nn.ConvLSTMCell(2, (2, 2)), ((rows(4, 5, 2),) * 2, rows(4, 5, 2))
    ),
    LayerCase(
        "sequential",
        lambda: nn.Sequential([nn.Dense(4), nn.gelu, nn.LayerNorm(), nn.Dense(2)]),
        FEATURES,
    ),
    LayerCase("setup", Encoder, FEATURES),
    LayerCase(
        "compact, with noise",
        lambda: Residual(nn.relu),
        FEATURES,
        kwargs={"train": True},
        draws=True,
    ),
    LayerCase("two in, two out", Two, (rows(6), rows())),
    LayerCase(
        "dictionaries",
        Tree,
        ({"image": rows(3, 3, 2), "pair": [rows(dtype=jnp.int32), None]},),
        kwargs={"flip": True},
    ),
    LayerCase("mask", Gate, FEATURES, takes_mask=True),
    LayerCase("noise of one's own", Noise, FEATURES, draws=True),
    LayerCase("without parameters", NormOfRow, FEATURES),
    LayerCase("function of JAX", lambda: jnp.tanh, FEATURES),
    LayerCase("lambda", lambda: lambda x: x * x.sum(-1, keepdims=True), FEATURES),
    LayerCase("transforms of Flax", Lifted, FEATURES, kwargs={"train": True}, draws=True),
    LayerCase("a scan over depth", Deep, FEATURES),
    LayerCase(
        "a scan over depth, with noise",
        lambda: Deep(rate=0.4),
        FEATURES,
        draws=True,
    ),
    LayerCase("branches", Branches, FEATURES),
    LayerCase("rows that mix", Unlike, FEATURES, refused="reduce_sum"),
)
