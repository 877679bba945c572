"""Small models with random weights, each made by somebody else's library."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

BATCH, TIME = 2, 3
KEY = jax.random.key


@dataclasses.dataclass(frozen=True)
class Entry:
    """What `assert_same_as_loop` is called with.

    Attributes:
        fun: a step function or a layer.
        args: its arguments, with their time axes.
        options: those of the assertion.
        trained: a Linen layer whose statistics are also compared with those of one batch of all
            rows, as training pools them; None for none.
    """

    fun: Any
    args: tuple[Any, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    trained: Any = None


ZOO: dict[str, Callable[[], Entry]] = {}


def _entry(make: Callable[[], Entry]) -> Callable[[], Entry]:
    ZOO[make.__name__] = make
    return make


def _normal(*shape: int) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((BATCH, TIME, *shape))
    return drawn.astype(np.float32)


def _tokens(length: int, words: int = 11) -> np.ndarray:
    return np.random.default_rng(0).integers(1, words, (BATCH, TIME, length)).astype(np.int32)


def _resnet() -> Any:
    from jax_resnet import ResNet, ResNetBlock

    return ResNet(ResNetBlock, stage_sizes=(1, 1), hidden_sizes=(4, 8), n_classes=3)


@_entry
def resnet_in_training() -> Entry:
    """jax-resnet: every step returns its batch statistics, so that they are compared as well."""
    model, frames = _resnet(), _normal(16, 16, 3)
    variables = model.init(KEY(0), frames[:, 0])

    def step(variables: Any, frame: Any) -> Any:
        return model.apply(variables, frame, mutable=["batch_stats"])

    return Entry(step, (variables, frames), {"in_axes": (None, 1)}, trained=model)


@_entry
def resnet_in_evaluation() -> Entry:
    """jax-resnet with running statistics."""
    model, frames = _resnet(), _normal(16, 16, 3)
    variables = model.init(KEY(0), frames[:, 0])
    return Entry(model.apply, (variables, frames), {"in_axes": (None, 1)})


@_entry
def vision_transformer() -> Entry:
    """attnax, NNX."""
    import attnax

    config = attnax.VisionTransformerConfig(
        image_size=8,
        patch_size=4,
        num_classes=3,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=16,
        dropout_rate=0.0,
    )
    return Entry(attnax.VisionTransformer(nnx.Rngs(0), config), (_normal(8, 8, 3),))


class _Masked(nnx.Module):
    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def __call__(self, words: Any, real: Any) -> Any:
        return self.encoder(words, padding_mask=real[:, None, None, :])


def _encoder(rate: float) -> Any:
    import attnax

    config = attnax.TransformerConfig(
        vocab_size=11,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=16,
        max_len=8,
        dropout_rate=rate,
    )
    return _Masked(attnax.TransformerEncoder(nnx.Rngs(0), config))


@_entry
def text_encoder_with_its_mask() -> Entry:
    """attnax: a stack as BERT's, whose attention is masked where a sentence ends."""
    return Entry(_encoder(0.0), (_tokens(6), np.arange(6) < _tokens(1, 6)))


@_entry
def text_encoder_with_dropout() -> Entry:
    """attnax: the same in training, with sentences left out."""
    lengths = {"seq_lengths": np.array([3, 1], np.int32)}
    return Entry(_encoder(0.5), (_tokens(6), np.arange(6) < _tokens(1, 6)), lengths)


@_entry
def mixture_of_experts() -> Entry:
    """attnax: its auxiliary losses are taken over all rows of a step."""
    import attnax

    model = attnax.MixtureOfExperts(nnx.Rngs(0), d_model=8, d_ff=16, num_experts=4)
    return Entry(model, (_normal(5, 8),), {"out_axes": (1, 0)})


@_entry
def state_space_model() -> Entry:
    """mamba2-jax."""
    from mamba2_jax import Mamba2Config, Mamba2Mixer

    config = Mamba2Config(hidden_size=8, state_size=4, head_dim=4, chunk_size=4)
    return Entry(Mamba2Mixer(config, 0, rngs=nnx.Rngs(0)), (_normal(8, 8),))


@_entry
def lstm_tagger() -> Entry:
    """Flax: a bidirectional LSTM over the words of each sentence, which has its own length."""

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, words: Any, lengths: Any) -> Any:
            forward, back = (nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2))
            embedded = nn.Embed(11, 4)(words)
            return nn.Dense(3)(nn.Bidirectional(forward, back)(embedded, seq_lengths=lengths))

    return Entry(Tagger(), (_tokens(6), _tokens(1, 6)[..., 0]))


@_entry
def graph_network() -> Entry:
    """jraph: nodes and edges of one graph a row, with sums over neighbors."""
    import jraph

    senders, receivers = np.array([0, 1, 2, 3, 0]), np.array([1, 2, 3, 0, 2])

    def one(weights: Any, nodes: Any, edges: Any) -> Any:
        def update_edge(edge: Any, sent: Any, received: Any, _: Any) -> Any:
            return jnp.tanh(jnp.concatenate([edge, sent, received], -1) @ weights["edge"])

        def update_node(node: Any, sent: Any, received: Any, _: Any) -> Any:
            return jnp.tanh(jnp.concatenate([node, sent, received], -1) @ weights["node"])

        network = jraph.GraphNetwork(update_edge, update_node)
        counts = {"n_node": np.array([4]), "n_edge": np.array([5])}
        graph = jraph.GraphsTuple(nodes, edges, receivers, senders, None, **counts)
        return network(graph).nodes

    random = np.random.default_rng(1)
    weights = {
        "edge": random.standard_normal((8, 2)).astype(np.float32),
        "node": random.standard_normal((7, 3)).astype(np.float32),
    }
    step = jax.vmap(one, in_axes=(None, 0, 0))
    return Entry(step, (weights, _normal(4, 3), _normal(5, 2)), {"in_axes": (None, 1, 1)})


@_entry
def unet_with_time_embedding() -> Entry:
    """diffusers: noise is taken from images, each at a time of its own, given a few words."""
    from diffusers.models.unets.unet_2d_condition_flax import FlaxUNet2DConditionModel

    net = FlaxUNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        block_out_channels=(32,),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=8,
    )
    images, words, times = _normal(2, 4, 4), _normal(3, 8), _tokens(1, 1000)[..., 0]
    variables = net.init(KEY(0), images[:, 0], jnp.asarray(times[:, 0]), words[:, 0])

    def step(variables: Any, image: Any, time: Any, words: Any) -> Any:
        return net.apply(variables, image, jnp.asarray(time), words).sample

    return Entry(step, (variables, images, times, words), {"in_axes": (None, 1, 1, 1)})


@_entry
def detection_head() -> Entry:
    """kyolo, Keras: the head of a YOLO on a pyramid of two maps, and the boxes that it gives."""
    import keras
    from kyolo.heads import detect_head
    from kyolo.layers import DFL

    keras.utils.set_random_seed(0)
    maps = [keras.Input((size, size, 8)) for size in (4, 2)]
    levels = detect_head(maps, nc=3, reg_max=4, data_format="channels_last")
    model, distances = keras.Model(maps, levels), DFL(4)
    weights = [variable.value for variable in model.trainable_variables]
    statistics = [variable.value for variable in model.non_trainable_variables]

    def step(weights: Any, fine: Any, coarse: Any) -> Any:
        found, _ = model.stateless_call(weights, statistics, [fine, coarse], training=False)
        anchors = jnp.concatenate([level.reshape(len(level), -1, 19) for level in found], 1)
        return distances(anchors[..., :16].mT), jax.nn.sigmoid(anchors[..., 16:])

    return Entry(step, (weights, _normal(4, 4, 8), _normal(2, 2, 8)), {"in_axes": (None, 1, 1)})


@_entry
def haiku_mobilenet() -> Entry:
    """Haiku."""
    import haiku as hk

    def network(frame: Any) -> Any:
        net = hk.nets.MobileNetV1(strides=(1, 2), channels=(4, 8), num_classes=3)
        return net(frame, is_training=hk.running_init())

    frames = _normal(16, 16, 3)
    transformed = hk.transform_with_state(network)
    params, state = transformed.init(KEY(0), frames[:, 0])

    def step(params: Any, state: Any, frame: Any) -> Any:
        return transformed.apply(params, state, None, frame)[0]

    return Entry(step, (params, state, frames), {"in_axes": (None, None, 1)})


@_entry
def equinox_attention() -> Entry:
    """Equinox: attention and a perceptron, for one example each."""
    import equinox as eqx

    attention = eqx.nn.MultiheadAttention(2, 8, key=KEY(0))
    head = eqx.nn.MLP(8, 3, width_size=8, depth=1, key=KEY(1))

    def one(model: Any, x: Any) -> Any:
        attention, head = model
        return jax.vmap(head)(attention(x, x, x))

    def step(model: Any, x: Any) -> Any:
        return jax.vmap(functools.partial(one, model))(x)

    return Entry(step, ((attention, head), _normal(5, 8)), {"in_axes": (None, 1)})
