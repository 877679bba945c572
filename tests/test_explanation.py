"""`explain`: what would run, and why, without running it."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import tdjax
import tdjax.linen
from tdjax import Fold, StrategyError, Vmap, explain, time_distributed
from tdjax.devices.attached import assume

CLIPS = jax.ShapeDtypeStruct((4, 5, 8), jnp.float32)


def center(x):
    return x - x.mean(0, keepdims=True)


def test_an_independent_function():
    found = explain(jnp.tanh, CLIPS)
    assert (found.strategy, found.rows_independent) == (Fold(), True)
    assert found.candidates[0].strategy == found.strategy
    costs = [each.forward_s for each in found.candidates[1:]]
    assert found.gradient_strategy == Fold()
    assert costs == sorted(costs) and min(costs) > 0


def test_a_function_that_mixes_rows_names_the_operation():
    found = explain(center, CLIPS)
    assert (found.strategy, found.rows_independent) == (Vmap(), False)
    assert any("reduce_sum" in reason and __file__ in reason for reason in found.reasons)
    assert not any(isinstance(each.strategy, Fold) for each in found.candidates)


@pytest.mark.parametrize("strategy", ["vmap", "map", "fold", Fold(chunk_size=3)], ids=str)
def test_a_strategy_that_was_asked_for_stays(strategy):
    found = explain(time_distributed(jnp.tanh, strategy=strategy), CLIPS)
    assert str(found.strategy) == str(strategy)
    assert found.rows_independent and found.reasons[0] == "It was asked for."


def test_nothing_runs():
    ran = []

    def step(x):
        jax.debug.callback(lambda: ran.append(1))
        return x

    explain(time_distributed(step, strategy="vmap"), jnp.ones((4, 5, 8)))
    assert not ran


def test_arguments_are_those_of_the_call():
    wrapped = time_distributed(lambda w, x: x @ w, in_axes=(None, 1))
    weights = jax.ShapeDtypeStruct((8, 3), jnp.float32)
    assert explain(wrapped, weights, CLIPS).rows_independent
    with pytest.raises(ValueError, match="in_axes"):
        explain(wrapped, CLIPS)
    assert explain(jnp.tanh, CLIPS, seq_lengths=jnp.array([5, 3, 2, 1])).rows_independent


@pytest.mark.parametrize(
    "module",
    [nn.Dense(3), tdjax.linen.TimeDistributed(nn.Dense(3)), nnx.Linear(8, 3, rngs=nnx.Rngs(0))],
    ids=["linen", "wrapped", "nnx"],
)
def test_flax_modules(module):
    found = explain(module, jnp.ones((4, 5, 8)))
    assert (found.strategy, found.rows_independent) == (Fold(), True)


# What is distributed inside of models: paths, as `explain` shows them, and what runs.


@time_distributed
def doubled(step):
    return step * 2


@time_distributed(strategy="map")
def centered(step):
    return step - step.mean(0, keepdims=True)


class Compact(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = tdjax.linen.TimeDistributed(nn.Dense(3))(x)
        x = tdjax.linen.TimeDistributed(nn.Dense(3), name="head", strategy="vmap")(x)
        x = tdjax.linen.TimeDistributed(nn.BatchNorm(use_running_average=not train))(x)
        x = tdjax.linen.TimeDistributed(nn.Dropout(0.5, deterministic=not train))(x)
        return nn.Dense(2)(doubled(x))


class Setup(nn.Module):
    def setup(self):
        self.encoder = tdjax.linen.TimeDistributed(nn.Dense(3), strategy=Fold(chunk_size=4))
        self.heads = [tdjax.linen.TimeDistributed(center)]

    @time_distributed(strategy="unroll")
    def decode(self, x):
        return x + 1

    def __call__(self, x):
        return self.decode(self.heads[0](self.encoder(x)))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        make = tdjax.nnx.TimeDistributed
        self.blocks = nnx.List([make(nnx.Linear(8, 8, rngs=rngs)) for _ in range(2)])
        self.norm = make(nnx.BatchNorm(8, rngs=rngs))
        self.act = make(center, strategy="map")
        self.head = nnx.Linear(8, 3, rngs=rngs)

    @time_distributed(strategy="vmap")
    def decode(self, x):
        return self.head(x)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return time_distributed(self.head)(self.act(self.norm(x))), self.decode(x)


def line_of(fun):
    fun = inspect.unwrap(fun)
    return f"{fun.__qualname__} at {__file__}:{fun.__code__.co_firstlineno}"


DOUBLED, CENTERED = line_of(doubled), line_of(centered)
IN_COMPACT = {
    "Dense_0": "fold",
    "head (Dense_1)": "vmap",
    "BatchNorm_0": "fold",
    "Dropout_0": "fold",
    DOUBLED: "fold",
}
IN_MODEL = {
    "blocks/0": "fold",
    "blocks/1": "fold",
    "norm": "fold",
    f"act: {line_of(center)}": "map",
    "head": "fold",
    line_of(Model.decode): "vmap",
}
MODEL = Model()


def compiled_before(x):
    return jax.jit(doubled)(x) + centered(x)


def in_a_scan(x):
    return jax.lax.scan(lambda carry, _: (doubled(carry), None), x, length=3)[0]


def called_twice(x):
    return doubled(doubled(x))


MODELS = {
    "compact": (Compact(), (CLIPS,), {}, IN_COMPACT),
    "training": (Compact(), (CLIPS,), {"train": True}, IN_COMPACT),
    "setup": (
        Setup(),
        (CLIPS,),
        {},
        {
            "encoder/layer": "Fold(chunk_size=4)",
            f"heads_0: {line_of(center)}": "vmap",
            line_of(Setup.decode): "unroll",
        },
    ),
    "sequence": (
        nn.Sequential([nn.tanh, tdjax.linen.TimeDistributed(nn.Dense(3))]),
        (CLIPS,),
        {},
        {"layers_1/layer": "fold"},
    ),
    "nnx": (MODEL, (CLIPS,), {}, IN_MODEL),
    "nnx argument": (lambda model, x: model(x), (MODEL, CLIPS), {}, IN_MODEL),
    "nnx jit": (nnx.jit(lambda model, x: model(x)), (MODEL, CLIPS), {}, IN_MODEL),
    "nnx method": (MODEL.__call__, (CLIPS,), {}, IN_MODEL),
    "function": (lambda x: centered(doubled(x)), (CLIPS,), {}, {DOUBLED: "fold", CENTERED: "map"}),
    "jit": (jax.jit(compiled_before), (CLIPS,), {}, {DOUBLED: "fold", CENTERED: "map"}),
    "gradient": (
        jax.grad(lambda x: compiled_before(x).sum()),
        (CLIPS,),
        {},
        {DOUBLED: "fold", CENTERED: "map"},
    ),
    "scan": (in_a_scan, (CLIPS,), {}, {DOUBLED: "fold"}),
    "twice": (called_twice, (CLIPS,), {}, {DOUBLED: "fold"}),
}


@pytest.mark.parametrize(("model", "args", "options", "expected"), MODELS.values(), ids=MODELS)
def test_in_a_model_everything_distributed_has_a_row(model, args, options, expected):
    jax.eval_shape(compiled_before, CLIPS)  # what jit remembers is found as well
    found = explain(model, *args, **options)
    assert {each.path: str(each.strategy) for each in found.layers} == expected
    assert found.strategy is None and len(found.layers) == len(expected)
    head, *rows = str(found).splitlines()
    assert f"{len(expected)} distributed" in head
    for row, each in zip(rows, found.layers, strict=True):
        assert row.split()[: len(each.path.split())] == each.path.split()
        assert f"  {each.strategy}" in row and each.reasons[0] in row


def test_what_is_explained_of_a_model_is_why():
    found = {each.path: each for each in explain(Compact(), CLIPS, train=True).layers}
    first, second, *_ = found["BatchNorm_0"].reasons
    assert "batch statistics over batch and time" in first
    assert "not proven to be independent" in second and "That is allowed" in second
    assert found["head (Dense_1)"].reasons[0] == "It was asked for."
    assert found["Dense_0"].candidates and found["Dense_0"].rows_independent
    (mixing,) = (each for each in explain(Setup(), CLIPS).layers if "center" in each.path)
    assert not mixing.rows_independent and f"`reduce_sum` at {__file__}" in str(mixing)


@pytest.mark.parametrize("options", [{}, {"rngs": {"dropout": jax.random.key(0)}, "train": True}])
def test_variables_of_a_linen_model_are_given_as_to_apply(options):
    variables = jax.eval_shape(Compact().init, jax.random.key(0), CLIPS)
    found = explain(Compact(), variables, CLIPS, **options)
    assert {each.path: str(each.strategy) for each in found.layers} == IN_COMPACT


def test_a_layer_with_its_variables_is_a_step():
    variables = nn.Dense(3).init(jax.random.key(0), jnp.ones((4, 8)))
    assert explain(nn.Dense(3), variables, CLIPS).strategy == Fold()
    wrapper = tdjax.linen.TimeDistributed(nn.Dense(3), strategy="map")
    found = explain(wrapper, tdjax.linen.wrapper_variables(variables), CLIPS)
    assert (str(found.strategy), found.path, found.layers) == ("map", "layer", ())


def test_inside_of_a_step_what_is_distributed_sees_the_rows_that_run():
    deep = jax.ShapeDtypeStruct((2, 3, 4, 5), jnp.float32)
    for strategy, rows in (("fold", 6), ("vmap", 2), ("map", 2), (Fold(chunk_size=4), 4)):
        found = explain(time_distributed(lambda step: doubled(step), strategy=strategy), deep)
        assert str(found.strategy) == str(strategy)
        assert [each.path for each in found.layers] == [DOUBLED]
        assert f"there are {rows} x 4 rows" in str(found.layers[0])
        assert "Inside of its steps:" in str(found)


def test_a_model_is_left_as_it_was():
    model = Model()
    graph, state = nnx.split(model)
    explain(model, CLIPS)
    after, values = nnx.split(model)
    assert graph == after
    same = [one is other for one, other in zip(*map(jax.tree.leaves, (state, values)), strict=True)]
    assert same and all(same)


def test_an_error_of_a_model_is_its_own():
    with pytest.raises(KeyError, match="mine"):
        explain(lambda x: {}[doubled(x) is None or "mine"], CLIPS)


def test_a_step_that_fails_on_all_steps_at_once_is_a_step():
    def step(x):
        if x.ndim != 2:
            raise ValueError("one step only")
        return doubled(x[:, :, None])[..., 0]

    found = explain(step, CLIPS)
    assert [each.path for each in found.layers] == [DOUBLED]


def test_nobody_listens_after_an_error():
    with pytest.raises(TypeError):
        explain(lambda x: doubled(x) + "text", CLIPS)
    assert doubled(jnp.ones((2, 3))).shape == (2, 3)
    assert explain(jnp.tanh, CLIPS).layers == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pooled": True}, "one batch"),
        ({"axis_name": "time"}, "Time has a name"),
    ],
)
def test_what_leaves_one_way_says_so(options, said):
    found = explain(time_distributed(jnp.tanh, **options), CLIPS)
    assert said in found.reasons[0] and found.candidates == ()


def test_rows_that_need_not_be_independent_are_said_to_be_so():
    pooled = str(explain(time_distributed(center, pooled=True), CLIPS))
    assert "reduces over the rows. That is allowed: it is meant to see all steps as one" in pooled
    assert "allowed" not in str(explain(time_distributed(center), CLIPS))


def test_one_step_is_mapped():
    found = explain(jnp.tanh, jax.ShapeDtypeStruct((4, 1, 8), jnp.float32))
    assert found.strategy == Vmap() and "one step" in found.reasons[0]


def test_printing_reads_well():
    lines = str(explain(jnp.tanh, CLIPS)).splitlines()
    assert lines[0] == "fold will run."
    assert "proven to be independent" in lines[2]
    shown = [line for line in lines if line.startswith("  ")]
    assert shown[0].split()[0] == "fold" and "us" in shown[0]


def test_a_refusal_is_that_of_the_call():
    with pytest.raises(StrategyError):
        time_distributed(center, strategy="fold")(jnp.ones((4, 5, 8)))
    assert not explain(time_distributed(center, strategy="vmap"), CLIPS).rows_independent


@pytest.mark.usefixtures("on_two_cores")
def test_with_a_mask_it_says_from_where_on_packing_pays():
    large = jax.ShapeDtypeStruct((32, 64, 256), jnp.float32)
    weights = jnp.zeros((256, 256))

    def step(x):
        for _ in range(4):
            x = jnp.tanh(x @ weights)
        return x

    found = explain(step, large, seq_lengths=jnp.full(32, 8))
    assert isinstance(found.strategy, tdjax.Packed)
    assert found.candidates[0].strategy == found.strategy
    assert "Packing is predicted to pay where less than" in str(found)
    assert "12% of these are" in str(found)
    asked = explain(time_distributed(step, strategy="packed"), large, seq_lengths=jnp.full(32, 8))
    assert asked.strategy == tdjax.Packed()


@pytest.mark.usefixtures("on_two_cores")
def test_blocks_on_a_cpu_say_that_their_convolutions_are_their_own():
    # A kernel for each channel: XLA for CPUs computes that in plain loops, whichever its version.
    kernel = jax.ShapeDtypeStruct((3, 3, 1, 32), jnp.float32)
    clips = jax.ShapeDtypeStruct((4, 8, 28, 28, 32), jnp.float32)

    def conv(kernel, x):
        numbers = "NHWC", "HWIO", "NHWC"
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=32
        )

    found = explain(time_distributed(conv, in_axes=(None, 1)), kernel, clips)
    assert found.strategy.chunk_size is not None
    assert any("convolutions are computed" in reason for reason in found.reasons)
    with assume("gpu"):
        found = explain(time_distributed(conv, in_axes=(None, 1)), kernel, clips)
    assert found.strategy == Fold()
    assert not any("convolutions" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    "masks",
    [
        {"mask": jax.ShapeDtypeStruct((4, 5), bool)},
        {"seq_lengths": jax.ShapeDtypeStruct((4,), jnp.int32)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["function", "linen", "nnx"])
def test_a_mask_may_be_a_description(kind, masks):
    fun = {
        "function": lambda: jnp.tanh,
        "linen": lambda: nn.Dense(3),
        "nnx": lambda: nnx.Linear(8, 3, rngs=nnx.Rngs(0)),
    }[kind]()
    found = explain(fun, CLIPS, **masks)
    assert found.rows_independent and "Packing is predicted" in str(found)
