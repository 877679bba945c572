"""The NNX wrapper inside NNX's own transforms, and in all that is done with an NNX module."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax_cases import STRATEGIES, WHOLE, assert_close, assert_no_tracers, data

import tdjax
from tdjax.nnx import TimeDistributed

BATCH, TIME, FEATURES = 4, 5, 6
SOME = ("vmap", "fold", "auto")


class Block(nnx.Module):
    """Everything that has state: parameters, batch statistics and noise."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(FEATURES, FEATURES, rngs=rngs)
        self.norm = nnx.BatchNorm(FEATURES, momentum=0.8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(jnp.tanh(self.linear(x))))


def block(strategy="auto", seed=0):
    return TimeDistributed(Block(nnx.Rngs(seed)), strategy=strategy)


def arrays(module):
    """Return all arrays that a module holds, keys as numbers, by path."""
    values = {path: held.get_value() for path, held in nnx.to_flat_state(nnx.state(module))}
    return {
        path: jax.random.key_data(value)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        else value
        for path, value in values.items()
    }


def call(model, x):
    return model(x)


def through_split(model, x):
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, x):
        inner = nnx.merge(graph, state)
        return inner(x), nnx.state(inner)

    output, state = run(state, x)
    nnx.update(model, state)
    return output


TRANSFORMS = {
    "nnx.jit": nnx.jit(call),
    "nnx.jit of a tree": nnx.jit(call, graph=False, graph_updates=False),
    "jax.jit of a split module": through_split,
    "nnx.remat": nnx.remat(call),
    "nnx.cond": lambda model, x: nnx.cond(x.size > 0, call, lambda model, x: x, model, x),
    "nnx.fori_loop": lambda model, x: nnx.fori_loop(
        0, 1, lambda _, both: (both[0], both[0](both[1])), (model, x)
    )[1],
}


@pytest.mark.parametrize("strategy", ["vmap", "fold"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformed_call_gives_and_leaves_what_a_plain_one_does(name, strategy):
    model, plain = block(strategy), block(strategy)
    assert_close(TRANSFORMS[name](model, data()), plain(data()), atol=1e-5)
    assert_close(arrays(model), arrays(plain), atol=1e-5)
    assert arrays(model)["layer", "dropout", "rngs", "count"] == 1
    assert_no_tracers(nnx.state(model))


@pytest.mark.parametrize("strategy", SOME)
def test_gradients_go_to_what_was_asked_for_through_remat_as_well(strategy):
    def loss(model, x):
        return jnp.sin(model(x)).sum()

    kernels = nnx.DiffState(0, nnx.PathContains("kernel"))
    gradients = nnx.jit(nnx.grad(loss, argnums=kernels))(block(strategy), data())
    assert [path for path, _ in nnx.to_flat_state(gradients)] == [("layer", "linear", "kernel")]
    again = nnx.jit(nnx.grad(nnx.remat(loss)))(block(strategy), data())
    again = nnx.filter_state(again, nnx.PathContains("kernel"))
    assert_close(again, gradients, atol=1e-5)


class Inner(Block):
    """A block whose own call is transformed."""

    @nnx.jit
    @nnx.remat
    def __call__(self, x):
        return super().__call__(x)


@pytest.mark.parametrize("strategy", SOME)
def test_transforms_within_the_layer(strategy):
    inner, plain = TimeDistributed(Inner(nnx.Rngs(0)), strategy=strategy), block(strategy)
    assert_close(inner(data()), plain(data()), atol=1e-5)
    assert_close(arrays(inner), arrays(plain), atol=1e-5)
    inner.eval(), plain.eval()
    assert_close(inner(data()), plain(data()), atol=1e-5)


def stacked(count, strategy):
    """Return wrapped blocks as one module with a leading axis, and each of them by itself."""

    @nnx.split_rngs(splits=count)
    @nnx.vmap
    def make(rngs):
        return TimeDistributed(Block(rngs), strategy=strategy)

    models = make(nnx.Rngs(0))
    graph, state = nnx.split(models)
    members = [nnx.merge(graph, jax.tree.map(lambda x, i=i: x[i], state)) for i in range(count)]
    return models, members


def assert_each_is(models, members):
    together = arrays(models)
    for index, member in enumerate(members):
        each = {path: leaf[index] for path, leaf in together.items()}
        assert_close(each, arrays(member), atol=1e-5)


@pytest.mark.parametrize("strategy", SOME)
def test_an_ensemble_is_its_members(strategy):
    models, members = stacked(3, strategy)
    trained = nnx.StateAxes({nnx.Param: 0, nnx.BatchStat: 0, nnx.RngState: 0, ...: None})
    output = nnx.jit(nnx.vmap(call, in_axes=(trained, None)))(models, data())
    assert_close(output, jnp.stack([member(data()) for member in members]), atol=1e-5)
    assert_each_is(models, members)
    assert not (output[0] == 0).all() and not (output[0] == output[1]).all()


@pytest.mark.parametrize("strategy", SOME)
def test_scanned_over_depth_it_is_one_after_the_other(strategy):
    models, members = stacked(3, strategy)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def forward(x, model):
        return model(x)

    output, expected = forward(data(), models), data()
    for member in members:
        expected = member(expected)
    assert_close(output, expected, atol=2e-5)
    assert_each_is(models, members)


@pytest.mark.parametrize("strategy", SOME)
def test_scanned_over_a_stream_of_clips_it_hands_on_its_state(strategy):
    clips = data(3, BATCH, TIME, FEATURES)
    model, plain = block(strategy), block(strategy)
    carried = nnx.StateAxes({nnx.Any(nnx.BatchStat, nnx.RngState): nnx.Carry, ...: None})
    outputs = nnx.scan(call, in_axes=(carried, 0), out_axes=0)(model, clips)
    assert_close(outputs, jnp.stack([plain(clip) for clip in clips]), atol=1e-5)
    assert_close(arrays(model), arrays(plain), atol=1e-5)
    assert model.layer.dropout.rngs.count.get_value() == 3


def test_it_is_made_and_called_in_the_abstract():
    model = nnx.eval_shape(lambda: block("fold"))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(model)))
    output = nnx.eval_shape(call, model, jax.ShapeDtypeStruct((2, 4, FEATURES), jnp.float32))
    assert output.shape == (2, 4, FEATURES)
    concrete = block()
    before = arrays(concrete)
    nnx.eval_shape(call, concrete, data())
    assert_close(arrays(concrete), before)


def test_the_state_is_that_of_the_layer_under_one_name_whatever_the_strategy():
    layer = Block(nnx.Rngs(0))
    expected = {("layer", *path): leaf for path, leaf in arrays(layer).items()}
    for strategy in ("vmap", tdjax.Fold(chunk_size=3)):
        assert_close(arrays(TimeDistributed(layer, strategy=strategy)), expected)


def test_states_move_between_strategies_and_clones_are_apart():
    model, other = block("fold", seed=1), block("vmap", seed=2)
    nnx.update(other, nnx.state(model))
    twin = nnx.clone(model)
    expected = model(data())
    assert_close(other(data()), expected, atol=1e-5)
    assert twin.layer.dropout.rngs.count.get_value() == 0
    assert_close(nnx.merge(*nnx.split(twin))(data()), expected)


class Classifier(nnx.Module):
    """A wrapper between other layers."""

    def __init__(self, strategy="auto"):
        rngs = nnx.Rngs(0)
        self.frames = TimeDistributed(Block(rngs), strategy=strategy)
        self.head = nnx.Linear(FEATURES, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.frames(x).mean(1))


@pytest.mark.parametrize("strategy", SOME)
def test_modes_reach_the_layer_and_views_leave_it(strategy):
    model = Classifier(strategy)
    expected = model.head(
        model.frames.layer.norm(
            jnp.tanh(model.frames.layer.linear(data())), use_running_average=True
        ).mean(1)
    )
    view = nnx.view(model, deterministic=True, use_running_average=True)
    assert_close(view(data()), expected)
    assert not model.frames.layer.dropout.deterministic
    assert view.frames.layer.norm.mean is model.frames.layer.norm.mean
    model.eval()
    assert_close(model(data()), expected)
    model.train()
    first, second = model(data()), model(data())
    assert not jnp.allclose(first, second)
    assert model.frames.layer.dropout.rngs.count.get_value() == 2


class Sows(nnx.Module):
    """Sows what it hides."""

    def __init__(self):
        self.linear = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        hidden = self.linear(x)
        self.sow(nnx.Intermediate, "hidden", hidden)
        self.sow(nnx.Intermediate, "largest", hidden.max())
        return jnp.tanh(hidden)


@pytest.mark.parametrize("strategy", ["vmap", "map", "auto"])
def test_captured_values_are_those_of_every_step_under_jit_and_grad_too(strategy):
    model = TimeDistributed(Sows(), strategy=strategy)
    hidden = model.layer.linear(data())

    @nnx.jit
    def run(model, x):
        def loss(model, x):
            output, found = nnx.capture(call, nnx.Intermediate)(model, x)
            return output.sum(), found

        return nnx.grad(loss, has_aux=True)(model, x)

    gradients, found = run(model, data())
    assert_close(found["layer"]["hidden"].get_value(), (hidden,))
    assert_close(found["layer"]["largest"].get_value(), (hidden.max((0, 2)),))
    expected = nnx.grad(lambda linear: jnp.tanh(linear(data())).sum())(model.layer.linear)
    assert_close(gradients["layer"]["linear"], expected, atol=1e-5)
    assert not hasattr(model.layer, "__captures__")


def test_it_prints_as_its_layer_and_what_was_set(capsys):
    model = TimeDistributed(nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0)), strategy="fold")
    nnx.display(model)
    for text in (repr(model), str(model), capsys.readouterr().out):
        assert text.startswith("TimeDistributed(") and "layer=Linear(" in text
        assert "options=Options(strategy='fold')" in text
    assert "method" not in repr(model)
    method = TimeDistributed(model.layer.__call__, strategy=tdjax.Fold(chunk_size=3), pooled=False)
    assert "Options(strategy=Fold(chunk_size=3), pooled=False)" in repr(method)
    assert "method='__call__'" in repr(method)


@pytest.fixture
def classes_as_they_were():
    """Takes back what `nnx.tabulate` leaves on classes: over its `sow`, `nnx.capture` recurses."""
    kinds = {type(each) for _, each in nnx.iter_modules(Classifier("vmap"))}
    before = {kind: set(vars(kind)) for kind in kinds}
    yield
    for kind, names in before.items():
        for name in vars(kind).keys() - names:
            delattr(kind, name)


@pytest.mark.usefixtures("classes_as_they_were")
@pytest.mark.parametrize("strategy", ["vmap", "fold", tdjax.Fold(chunk_size=3)], ids=str)
def test_a_table_lists_every_layer_once_as_a_step_sees_it(strategy):
    # A private attribute tells that a table is made: without it a fold is listed twice, or refused.
    model = Classifier(strategy)
    before = arrays(model)
    table = nnx.tabulate(model, data(), console_kwargs={"force_terminal": False, "width": 200})
    rows = [line for line in table.splitlines() if "frames/layer/linear" in line]
    assert len(rows) == 1 and f"float32[{BATCH},{FEATURES}]" in rows[0]
    assert f"float32[{BATCH},{TIME},{FEATURES}]" in table
    assert_close(arrays(model), before)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_streams_advance_once_a_call_whatever_the_time_size(strategy):
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    model = TimeDistributed(dropout, strategy=strategy)
    for calls, time in enumerate((5, 1, 3, 0), start=1):
        x = jnp.ones((2, time, 4))
        assert model(x).shape == x.shape
        assert dropout.rngs.count.get_value() == min(calls, 3)  # no step draws, none is counted


class Twice(nnx.Module):
    """One layer under two wrappers, and by itself."""

    def __init__(self):
        self.layer = Block(nnx.Rngs(0))
        self.first = TimeDistributed(self.layer, strategy="fold")
        self.second = TimeDistributed(self.layer, strategy="vmap")

    def __call__(self, x):
        return self.second(self.first(x))


def test_a_layer_under_two_wrappers_stays_one():
    model, plain = Twice(), block()
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == 4
    expected = plain(plain(data()))
    gradients = nnx.grad(lambda model: model(data()).sum())(model)
    assert len(jax.tree.leaves(gradients)) == 4
    twin = Twice()
    assert_close(nnx.jit(call)(twin, data()), expected, atol=1e-5)
    for one in (model, twin, nnx.clone(twin)):
        assert one.first.layer is one.second.layer is one.layer
        assert_close(arrays(one.layer), arrays(plain.layer), atol=1e-5)


@pytest.mark.parametrize("strategy", SOME)
def test_tied_weights_within_a_layer_stay_tied(strategy):
    class Tied(nnx.Module):
        def __init__(self):
            self.embed = self.head = nnx.Embed(7, FEATURES, rngs=nnx.Rngs(0))

        def __call__(self, tokens):
            return self.head.attend(self.embed(tokens))

    tokens = jax.random.randint(jax.random.key(0), (BATCH, TIME), 0, 7)
    loss = lambda model: jnp.sin(model(tokens)).sum()  # noqa: E731
    gradients = nnx.grad(loss)(TimeDistributed(Tied(), strategy=strategy))
    expected = nnx.grad(loss)(Tied())
    assert_close(jax.tree.leaves(gradients), jax.tree.leaves(expected), atol=2e-5)


def convolutional(strategy):
    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.conv = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.3, rngs=rngs)
            self.head = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x)))
            return self.head(self.dropout(x.reshape(x.shape[0], -1)))

    return TimeDistributed(Net(), strategy=strategy)


def test_training_is_the_same_under_every_whole_strategy():
    x, labels = data(3, 4, 4, 4, 1), jnp.arange(12).reshape(3, 4) % 3

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    trained = {}
    for strategy in WHOLE:
        model = convolutional(strategy)
        optimizer = nnx.Optimizer(model, optax.sgd(0.5, momentum=0.9), wrt=nnx.Param)
        losses = [step(model, optimizer) for _ in range(4)]
        trained[str(strategy)] = losses, arrays(model)
        assert losses[-1] < losses[0]
        assert model.layer.dropout.rngs.count.get_value() == 4
    for found in trained.values():
        assert_close(found, trained["vmap"], atol=1e-5)


def test_noise_is_the_same_to_the_bit_under_every_strategy():
    class Noise(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.one = nnx.Dropout(0.5, rngs=rngs)
            self.two = nnx.Dropout(0.3, broadcast_dims=(2,), rngs=rngs)

        def __call__(self, x):
            return self.two(self.one(x))

    x = data(2, 5, 3, 4)
    models = [TimeDistributed(Noise(), strategy=strategy) for strategy in STRATEGIES]
    outputs = [[model(x), model(x)] for model in models]
    for first, second in outputs:
        np.testing.assert_array_equal(first, outputs[0][0])
        np.testing.assert_array_equal(second, outputs[0][1])
    first, second = outputs[0]
    assert not ((first == 0) == (second == 0)).all()
    assert not ((first[:, 0] == 0) == (first[:, 1] == 0)).all()


def test_a_refused_call_leaves_the_module_as_it_was():
    model = block("map")
    before = arrays(model)
    for run in (call, nnx.jit(call)):
        with pytest.raises(tdjax.StrategyError, match="pooled=False"):
            run(model, data())
        assert_close(arrays(model), before)
        assert type(model.layer.norm) is nnx.BatchNorm and model.layer.norm.axis_name is None


def test_mutable_arrays_are_written_in_place():
    with nnx.var_defaults(ref=True):
        model = block("fold")
    plain = block("fold")
    mean = model.layer.norm.mean.get_raw_value()
    assert_close(jax.jit(call)(model, data()), plain(data()), atol=1e-5)
    assert model.layer.norm.mean.get_raw_value() is mean
    assert_close(mean[...], plain.layer.norm.mean.get_value(), atol=1e-5)
    assert model.layer.dropout.rngs.count[...] == 1


def test_state_among_positional_arguments_is_refused():
    class Noisy(nnx.Module):
        def __call__(self, x, rngs):
            return x + rngs.normal(x.shape)

    rngs = nnx.Rngs(0)
    with pytest.raises(TypeError, match=r"argument 1 \(Rngs\).*by keyword"):
        TimeDistributed(Noisy(), in_axes=(1, None))(data(), rngs)
    output = TimeDistributed(Noisy())(jnp.zeros((2, 3, 4)), rngs=rngs)
    assert rngs.default.count.get_value() == 1 and not jnp.allclose(output[:, 0], output[:, 1])
