"""A trained Keras model with TimeDistributed layers becomes Flax, with the same predictions.

    pip install '.[examples]'  # in a checkout
    python examples/from_keras.py

trains a Keras model for some seconds to count the even digits in a sequence of eight handwritten
ones, saves it, fills a Flax model from the file, and compares what they predict and how fast. To
move a model of your own: give its Keras layers names, give the Flax layers the same ones, and call
`variables_for`. It knows Dense, Conv1D to Conv3D, Embedding, the normalizations and LSTM.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import random
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # which Keras reads when it is imported

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from keras import layers
from sklearn.datasets import load_digits

from tdjax.comparison.system.extras import leave_out_absent
from tdjax.comparison.verdicts.intervals import median_interval, paired_ratio
from tdjax.linen import TimeDistributed

STEPS = 8

# --- The model in Keras, and in Flax ------------------------------------------------------------


def keras_model():
    """Map frames `(batch, 8, 8, 8, 1)` to the logits of 0 to 8 even digits."""
    over_time = layers.TimeDistributed
    conv2 = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv2")
    return keras.Sequential(
        [
            keras.Input((STEPS, 8, 8, 1)),
            over_time(layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1")),
            over_time(layers.BatchNormalization(name="norm")),
            over_time(conv2),
            over_time(layers.Flatten()),
            over_time(layers.Dense(48, activation="relu", name="features")),
            layers.LSTM(48, name="memory"),
            layers.Dense(STEPS + 1, name="count"),
        ]
    )


class FlaxModel(nn.Module):
    """The same layers with the same names; a wrapped layer keeps its name and its variables.

    Mind the defaults: Keras normalizes with an epsilon of 1e-3 and Flax of 1e-5, and where Keras
    says nothing about padding it means "VALID", Flax "SAME".
    """

    strategy: Any = "auto"

    @nn.compact
    def __call__(self, frames):  # (batch, 8, 8, 8, 1)
        def over_time(layer):
            return TimeDistributed(layer, strategy=self.strategy)

        norm = nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="norm")
        x = nn.relu(over_time(nn.Conv(16, (3, 3), padding="SAME", name="conv1"))(frames))
        x = over_time(norm)(x)
        x = nn.relu(over_time(nn.Conv(32, (3, 3), 2, padding="SAME", name="conv2"))(x))
        x = over_time(lambda image: image.reshape(image.shape[0], -1))(x)
        x = nn.relu(over_time(nn.Dense(48, name="features"))(x))
        x = nn.RNN(nn.OptimizedLSTMCell(48, name="memory"))(x)[:, -1]
        return nn.Dense(STEPS + 1, name="count")(x)


# --- From Keras' file to Flax's variables -------------------------------------------------------


def read_arrays(path):
    """Return `{layer: [array, ...]}` of a `.keras` or `.weights.h5` file, in Keras' order.

    Every layer in it is a group that holds a group `vars`: the layer's name is an attribute of
    that, and its arrays are called 0, 1, ... What an LSTM has belongs to its cell, one group below.
    """
    source, found = path, {}
    if path.suffix == ".keras":  # a zip file, with the other kind in it
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))

    def visit(address, group):
        *_, owner, kind = ("", *address.split("/"))
        if kind != "vars" or not len(group) or owner in ("optimizer", "seed_generator"):
            return
        named = group.parent.parent["vars"] if owner == "cell" else group
        if "name" not in named.attrs:
            raise ValueError(f"{path} holds no names of layers; save it with Keras 3.8 or newer.")
        name = named.attrs["name"]
        if name in found:
            raise ValueError(f"two Keras layers are called {name}; give them different names.")
        found[name] = [group[str(index)][()] for index in range(len(group))]

    with h5py.File(source) as file:
        file.visititems(visit)
    return found


def in_order(leaves, arrays):
    """Match Dense, convolutions, Embedding and normalizations: Keras' order of those it has.

    A kernel is `(..., channels in, channels out)` in both.
    """
    order = ("kernel", "embedding", "scale", "bias", "mean", "var")
    names = [leaf[-1] for leaf in leaves]
    if len(names) != len(arrays) or not set(names) <= set(order):
        owner, shapes = "/".join(leaves[0][1:-1]), [array.shape for array in arrays]
        raise ValueError(f"{owner} needs {', '.join(names)}; Keras has arrays of shapes {shapes}.")
    return dict(zip(sorted(leaves, key=lambda leaf: order.index(leaf[-1])), arrays, strict=True))


def gate_by_gate(leaves, arrays):
    """LSTM: Keras' gates i, f, c, o side by side are Flax's i, f, g, o apart; the bias is at h."""
    kernel, recurrent, bias = (np.split(array, 4, axis=-1) for array in arrays)
    gates = {("i", "kernel"): kernel, ("h", "kernel"): recurrent, ("h", "bias"): bias}
    filled = {}
    for leaf in leaves:  # ("params", "memory", "hf", "kernel")
        side, gate = leaf[-2]
        filled[leaf] = gates[side, leaf[-1]]["ifgo".index(gate)]
    return filled


def variables_for(model, path, x):
    """Return variables for a Flax model, each array from the Keras layer of the same name.

    Raises:
        ValueError: a layer is in the file or in the model alone, or its arrays do not fit.
    """
    stored = read_arrays(path)
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), x))
    wanted = {}  # the variables of each layer, by their paths: ("params", "conv1", "kernel")
    for leaf in shapes:
        layer = next((name for name in leaf[1:-1] if name in stored), None)
        if layer is None:
            raise ValueError(f"no Keras layer for {'/'.join(leaf)}; there are {sorted(stored)}.")
        wanted.setdefault(layer, []).append(leaf)
    if unused := sorted(stored.keys() - wanted.keys()):
        raise ValueError(f"the Flax model has no layers called {unused}.")

    filled = {}
    for layer, leaves in wanted.items():
        convert = gate_by_gate if any("hf" in leaf for leaf in leaves) else in_order
        filled |= convert(leaves, stored[layer])
    for leaf, array in filled.items():
        if array.shape != shapes[leaf].shape:
            raise ValueError(f"{'/'.join(leaf)} is {shapes[leaf].shape}, in Keras {array.shape}.")
    return unflatten_dict({leaf: jnp.asarray(array) for leaf, array in filled.items()})


# --- Real data, training in Keras, and the comparison -------------------------------------------


def sequences(count, seed, held_out=False):
    """Draw sequences of handwritten digits, and count the even ones in each."""
    digits = load_digits()
    every_fifth = np.arange(len(digits.target)) % 5 == 0
    choice = np.flatnonzero(every_fifth == held_out)
    choice = np.random.default_rng(seed).choice(choice, (count, STEPS))
    frames = digits.images[choice][..., None].astype("float32") / 16
    return frames, (digits.target[choice] % 2 == 0).sum(axis=1).astype("int32")


def train(model, frames, counts, epochs):
    """Fit in Keras as usual."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])

    def tell(epoch, logs):
        print(f"  epoch {epoch + 1} of {epochs}: {logs['accuracy']:.1%} right in training")

    told = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    model.fit(frames, counts, batch_size=64, epochs=epochs, verbose=0, callbacks=[told])


def logits_by_keras(model):
    """Return Keras' model as a pure function, and its arrays.

    Called like this within `jax.jit` it is fastest: `model.predict` adds work of its own.
    """
    params = [variable.value for variable in model.trainable_variables]
    statistics = [variable.value for variable in model.non_trainable_variables]

    def run(params, frames):
        return model.stateless_call(params, statistics, frames, training=False)[0]

    return run, params


def logits_by_flax(variables, strategy):
    """Return the same of the Flax model."""
    params, statistics = variables["params"], variables["batch_stats"]

    def run(params, frames):
        return FlaxModel(strategy).apply({"params": params, "batch_stats": statistics}, frames)

    return run, params


def gradient(run):
    """Return a function of `(params, frames, counts)`: the gradient of the cross-entropy."""

    def loss(params, frames, counts):
        chances = jax.nn.log_softmax(run(params, frames))
        return -jnp.take_along_axis(chances, counts[:, None], axis=1).mean()

    return jax.grad(loss)


def race(programs, rounds):
    """Compile `{name: (run, *args)}`, then time each once a round, in random order.

    A busy machine then slows all of them alike, and the two times of one round are compared.
    """
    calls, compile_s, samples = {}, {}, {name: [] for name in programs}
    for name, (run, *args) in programs.items():
        start = time.perf_counter()
        calls[name] = functools.partial(jax.jit(run).lower(*args).compile(), *args)
        compile_s[name] = time.perf_counter() - start
        jax.block_until_ready(calls[name]())
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            samples[name].append(time.perf_counter() - start)

    for name, taken in samples.items():
        line = f"    {name:11} {1000 * median_interval(taken).value:7.2f} ms"
        line += f", compiled in {compile_s[name]:.1f} s"
        if name != "Keras":
            speed, low, high = paired_ratio(samples["Keras"], taken)
            line += f"    {speed:.2f} times as fast ({low:.2f} to {high:.2f})"
        print(line)


def compare(model, variables, frames, counts, rounds):
    """Print how fast both predict and differentiate, and how that stands to Keras."""
    ways = {"Keras": logits_by_keras(model)}
    for strategy in ("vmap", "auto"):
        ways[f"Flax, {strategy}"] = logits_by_flax(variables, strategy)

    print("  predictions for one sequence")
    race({name: (run, params, frames[:1]) for name, (run, params) in ways.items()}, rounds)
    frames, counts = frames[:64], counts[:64]
    print(f"  predictions for {len(frames)} sequences")
    race({name: (run, params, frames) for name, (run, params) in ways.items()}, rounds)
    print(f"  gradient for {len(frames)} sequences")
    race(
        {name: (gradient(run), params, frames, counts) for name, (run, params) in ways.items()},
        rounds,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6, help="of training in Keras (6)")
    parser.add_argument("--sequences", type=int, default=4096, help="to train on (4096)")
    parser.add_argument("--rounds", type=int, default=25, help="of timing (25)")
    options = parser.parse_args(arguments)
    leave_out_absent()

    print(f"Keras {keras.__version__}: learning to count the even digits among {STEPS}")
    keras.utils.set_random_seed(0)
    model = keras_model()
    train(model, *sequences(options.sequences, seed=0), options.epochs)
    frames, counts = sequences(512, seed=1, held_out=True)
    expected = np.asarray(model(frames, training=False))
    right = (expected.argmax(-1) == counts).mean()
    print(f"  {right:.1%} right on digits that it has not seen\n")

    print("Flax: the same layers, with the arrays from Keras' file")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.keras", "model.weights.h5"):
            path = Path(folder) / name
            model.save(path) if name == "model.keras" else model.save_weights(path)
            variables = variables_for(FlaxModel(), path, frames)
            predicted = np.asarray(FlaxModel().apply(variables, frames))
            agree = int((predicted.argmax(-1) == expected.argmax(-1)).sum())
            print(
                f"  {name:16} {agree} of {len(frames)} predictions the same, "
                f"logits within {abs(predicted - expected).max():.0e}"
            )

    print(f"\nBoth compiled by jax.jit, on this {jax.default_backend().upper()} (95% intervals)")
    compare(model, variables, jnp.asarray(frames), jnp.asarray(counts), options.rounds)


if __name__ == "__main__":
    main()
