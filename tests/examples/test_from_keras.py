"""What the example does to its own model, and to others with layers that it says it takes."""

import importlib.util
import re
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax.linen import TimeDistributed

# Keras' own, when it reads its variables to save them: np.array(variable).
pytestmark = pytest.mark.filterwarnings(
    r"ignore:__array__ implementation doesn't accept a copy keyword"
    r":DeprecationWarning:keras\.src\.backend"
)


def load_example():
    path = Path(__file__).parents[2] / "examples" / "from_keras.py"
    spec = importlib.util.spec_from_file_location("from_keras", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()
keras, layers = example.keras, example.layers


def save(model, path):
    """Save with arrays that are not those of a new model: a zero would hide a wrong place."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.1, 0.5, variable.shape))
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)


def test_the_script_gives_the_same_predictions_and_times_both(monkeypatch, capsys):
    monkeypatch.setattr(example, "STEPS", 2)
    example.main(["--epochs", "2", "--sequences", "128", "--rounds", "3"])
    printed = capsys.readouterr().out
    assert "epoch 2 of 2" in printed
    for name in ("model.keras", "model.weights.h5"):
        assert re.search(rf"{re.escape(name)} +512 of 512 predictions the same", printed)
    assert printed.count(" times as fast (") == 6


def test_its_sequences_are_counted_right_and_kept_apart():
    seen, unseen = example.sequences(400, seed=0), example.sequences(400, seed=0, held_out=True)
    for frames, counts in (seen, unseen):
        assert frames.shape == (400, 8, 8, 8, 1) and frames.max() == 1
        assert counts.min() >= 0 and counts.max() <= 8
    one, other = (
        {image.tobytes() for image in frames.reshape(-1, 64)} for frames, _ in (seen, unseen)
    )
    assert not one & other


class Reader(nn.Module):
    """Words, a submodel over each sentence, what the sentences say together."""

    @nn.compact
    def __call__(self, words):  # (batch, sentences, words)
        x = TimeDistributed(nn.Embed(9, 5, name="table"))(words)
        x = TimeDistributed(Sentence())(x)
        x = TimeDistributed(nn.LayerNorm(epsilon=1e-3, name="layer_norm"))(x)
        return nn.Dense(2, use_bias=False, name="answer")(x)


class Sentence(nn.Module):
    """A convolution, batch normalization without a scale, an LSTM."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (2,), padding="VALID", name="conv")(x)
        x = nn.BatchNorm(True, epsilon=1e-3, use_scale=False, name="norm")(x)
        return nn.RNN(nn.OptimizedLSTMCell(3, name="memory"))(x)[:, -1]


def reader():
    sentence = keras.Sequential(
        [
            layers.Conv1D(4, 2, name="conv"),
            layers.BatchNormalization(scale=False, name="norm"),
            layers.Dropout(0.1),  # which stores the state of its random numbers
            layers.LSTM(3, name="memory"),
        ]
    )
    words = keras.Input((3, 6), dtype="int32")
    x = layers.TimeDistributed(layers.Embedding(9, 5, name="table"))(words)
    x = layers.TimeDistributed(sentence)(x)
    x = layers.TimeDistributed(layers.LayerNormalization(name="layer_norm"))(x)
    return keras.Model(words, layers.Dense(2, use_bias=False, name="answer")(x))


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_a_model_of_other_layers(tmp_path, file):
    model, words = reader(), jnp.arange(2 * 3 * 6).reshape(2, 3, 6) % 9
    save(model, tmp_path / file)
    variables = example.variables_for(Reader(), tmp_path / file, words)
    expected = model(words, training=False)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(Reader().apply(variables, words), expected, rtol=1e-5, atol=1e-6)


def test_the_variables_are_those_that_the_model_asks_for(tmp_path):
    frames = jnp.ones((2, 8, 8, 8, 1))
    save(example.keras_model(), tmp_path / "model.keras")
    variables = example.variables_for(example.FlaxModel(), tmp_path / "model.keras", frames)
    wanted = jax.eval_shape(example.FlaxModel().init, jax.random.key(0), frames)
    assert jax.tree.structure(variables) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(variables), jax.tree.leaves(wanted), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype


class Dense(nn.Module):
    """A single layer over time, called `a`."""

    units: int = 4
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        return TimeDistributed(nn.Dense(self.units, self.use_bias, name="a"))(x)


@pytest.mark.parametrize(
    "names, flax, words",
    [
        ("aa", Dense(), "two Keras layers are called a"),
        ("ab", Dense(), r"has no layers called \['b'\]"),
        ("b", Dense(), r"no Keras layer for params/a/\w+; there are \['b'\]"),
        ("a", Dense(use_bias=False), r"a needs kernel; Keras has .* \[\(4, 4\), \(4,\)\]"),
        ("a", Dense(7), r"params/a/\w+ is \((4, )?7,?\), in Keras \((4, )?4,?\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, names, flax, words):
    inputs = x = keras.Input((3, 4))
    for name in names:
        x = layers.TimeDistributed(layers.Dense(4, name=name))(x)
    save(keras.Model(inputs, x), tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match=words):
        example.variables_for(flax, tmp_path / "model.weights.h5", jnp.ones((2, 3, 4)))
