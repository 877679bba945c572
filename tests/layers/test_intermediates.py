"""What a layer sows, what Flax captures and what is perturbed: a value for every step."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_cases import (
    FEATURES,
    STRATEGIES,
    TIME,
    Holder,
    Net,
    assert_close,
    assert_no_tracers,
    data,
)

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(11)
LENGTHS = jnp.array([5, 2, 3, 1])
REAL = jnp.arange(TIME) < LENGTHS[:, None]
SOME = ("vmap", "fold", "unroll", tdjax.Fold(chunk_size=3))
NESTED = (2, 3, 4, FEATURES)  # (batch, outer time, inner time, features)
ADDED = {"init_fn": lambda: 0.0, "reduce_fn": lambda a, b: a + b}


def stacked(steps):
    """Stack what steps gave: `(batch, time, ...)`, scalars `(time,)`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, min(jnp.ndim(leaves[0]), 1)), *steps)


def loop(module, variables, x, **kwargs):
    """Apply a module without time to every step, and stack all that comes back."""
    apply = jax.jit(functools.partial(module.apply, **kwargs))
    return stacked([apply(variables, x[:, t]) for t in range(x.shape[1])])


class Rich(nn.Module):
    """Sows everything that can be sown for a row, or a step."""

    rows_only: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        for factor in (1, 2):
            self.sow("intermediates", "several", factor * x)
        self.sow("intermediates", "tree", {"a": x, "b": (x[:, 0], [x.sum(-1)]), "none": None})
        self.sow("intermediates", "integers", x.argmax(-1))
        self.sow("intermediates", "flags", x > 0)
        self.sow("intermediates", "count", 3)
        self.sow("intermediates", "flag", True)
        if not self.rows_only:
            self.sow("intermediates", "mean", x.mean())
        self.sow("other", "last", x, init_fn=lambda: None, reduce_fn=lambda _, new: new)
        lowest = functools.partial(jnp.full_like, x, -jnp.inf)
        for value in (x, -x):
            self.sow("other", "largest", value, init_fn=lowest, reduce_fn=jnp.maximum)
        self.sow("other", "list", x, init_fn=list, reduce_fn=lambda old, new: [*old, new])
        return jnp.tanh(x)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_all_that_is_sown_is_that_of_the_loop(strategy):
    by_step = isinstance(strategy, tdjax.Vmap) or strategy in ("vmap", "map", "unroll", "auto")
    layer = Rich(rows_only=not by_step)
    variables = {"params": Holder(layer).init(KEY, data()[:, 0])["params"]}
    kwargs = {"mutable": ["intermediates", "other"]}
    apply = functools.partial(TimeDistributed(layer, strategy=strategy).apply, **kwargs)
    result = jax.jit(apply)(variables, data())
    assert_close(result, loop(Holder(layer), variables, data(), **kwargs))
    assert ("mean" in result[1]["intermediates"]["layer"]) == by_step


@pytest.mark.parametrize("strategy", ["vmap", "fold"], ids=str)
def test_a_collection_is_collected_only_where_it_is_mutable(strategy):
    wrapper = TimeDistributed(Rich(), strategy=strategy)  # its mean would keep it from folding
    variables = {"params": wrapper.init(KEY, data())["params"]}
    output = wrapper.apply(variables, data())
    with_others, found = wrapper.apply(variables, data(), mutable=["other"])
    assert_close(with_others, output)
    assert set(found) == {"other"}
    assert set(wrapper.init(KEY, data())) == set(Holder(Rich()).init(KEY, data()[:, 0]))


class Center(nn.Module):
    """Output row i depends on row i alone; what is sown does not."""

    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "centered", x - x.mean(0))
        return 2 * x


def test_a_sown_value_that_mixes_rows_keeps_a_fold_from_running_if_it_is_kept():
    x = data()
    for strategy in ("fold", tdjax.Fold(chunk_size=3)):
        wrapper = TimeDistributed(Center(), strategy=strategy)
        assert_close(wrapper.apply({}, x), 2 * x)
        with pytest.raises(tdjax.StrategyError, match=r"Center cannot be folded.*reduce_sum"):
            wrapper.apply({}, x, mutable=["intermediates"])
    for strategy in ("vmap", "map", "auto"):
        wrapper = TimeDistributed(Center(), strategy=strategy)
        _, found = wrapper.apply({}, x, mutable=["intermediates"])
        assert_close(found["intermediates"]["layer"]["centered"][0], x - x.mean(0))


def test_an_error_about_a_sown_value_names_it():
    with pytest.raises(tdjax.StrategyError, match="centered"):
        TimeDistributed(Center(), strategy="fold").apply({}, data(), mutable=["intermediates"])


class Compact(nn.Module):
    wrap: Any

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(self.wrap(Net(sows=True))(x))


class Setup(nn.Module):
    wrap: Any

    def setup(self):
        self.net, self.head = self.wrap(Net(sows=True)), nn.Dense(2)

    def __call__(self, x):
        return self.head(self.net(x))


def is_dense(module, method):
    return isinstance(module, nn.Dense) and method == "__call__"


@pytest.mark.parametrize("strategy", ["vmap", tdjax.Fold(chunk_size=3)], ids=str)
@pytest.mark.parametrize("parent", [Compact, Setup])
@pytest.mark.parametrize("capture", [True, is_dense], ids=["all", "dense"])
def test_captured_by_an_outer_module_is_what_it_would_capture_step_by_step(
    parent, strategy, capture
):
    bare = parent(Holder if parent is Setup else lambda layer: layer)
    variables = bare.init(KEY, data()[:, 0])
    kwargs = {"capture_intermediates": capture, "mutable": ["intermediates"]}
    within = parent(functools.partial(TimeDistributed, strategy=strategy))
    output, found = within.apply(variables, data(), **kwargs)
    if parent is Compact and capture is True:
        wrapper = found["intermediates"].pop("TimeDistributed_0")["__call__"]
        assert_close(wrapper, found["intermediates"]["Net_0"]["__call__"])
    assert_close((output, found), loop(bare, variables, data(), **kwargs))


@pytest.mark.parametrize("strategy", ["vmap", "fold"], ids=str)
def test_captured_while_statistics_are_pooled_is_that_of_the_folded_batch(strategy):
    layer = Net(norm=True)
    variables = Holder(layer).init(KEY, data()[:, 0])
    kwargs = {"train": True, "capture_intermediates": True}
    kwargs["mutable"] = ["batch_stats", "intermediates"]
    _, found = TimeDistributed(layer, strategy=strategy).apply(variables, data(), **kwargs)
    _, folded = Holder(layer).apply(variables, data().reshape(-1, FEATURES), **kwargs)
    assert_close(
        jax.tree.map(lambda leaf: leaf.reshape(-1, 3), found["intermediates"]),
        folded["intermediates"],
    )


class NormAndMean(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(x)
        self.sow("intermediates", "largest", (x**2).max())
        return x


def test_a_value_of_all_rows_beside_pooled_statistics_is_for_vmap():
    variables = TimeDistributed(NormAndMean()).init(KEY, data())
    kwargs = {"mutable": ["batch_stats", "intermediates"]}
    with pytest.raises(tdjax.StrategyError, match=r'intermediates/largest.*strategy="vmap"'):
        TimeDistributed(NormAndMean(), strategy="fold").apply(variables, data(), **kwargs)
    for strategy in ("vmap", "auto"):
        apply = functools.partial(TimeDistributed(NormAndMean(), strategy=strategy).apply, **kwargs)
        output, found = jax.jit(apply)(variables, data())
        (largest,) = found["intermediates"]["layer"]["largest"]
        assert_close(largest, (output**2).max((0, 2)))


@pytest.mark.parametrize(("outer", "inner"), [("vmap", "fold"), ("fold", "fold"), ("map", "vmap")])
def test_in_nested_wrappers_a_row_has_both_times(outer, inner):
    layer, x = Net(sows=True), data(*NESTED)
    wrapper = TimeDistributed(TimeDistributed(layer, strategy=inner), strategy=outer)
    variables = jax.jit(wrapper.init)(KEY, x)
    kwargs = {"capture_intermediates": True, "mutable": ["intermediates"]}
    _, found = jax.jit(functools.partial(wrapper.apply, **kwargs))(variables, x)
    alone = Holder(Holder(layer))
    _, flat = alone.apply(variables, x.reshape(-1, FEATURES), **kwargs)
    assert_close(found, jax.tree.map(lambda leaf: leaf.reshape(*NESTED[:3], 3), flat))


def test_in_nested_wrappers_a_scalar_has_the_outer_time_first():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("intermediates", "mean", x.mean())
            return x

    x = data(*NESTED)
    wrapper = TimeDistributed(TimeDistributed(Mean(), strategy="vmap"), strategy="vmap")
    _, found = wrapper.apply({}, x, mutable=["intermediates"])
    assert_close(found["intermediates"]["layer"]["layer"]["mean"][0], x.mean((0, 3)))


class Penalized(nn.Module):
    """Adds two auxiliary losses, one for each row and one for all rows of a step."""

    by_row: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        for power in (2, 4):
            value = (x**power).sum(-1)
            self.sow("losses", "size", value if self.by_row else value.mean(), **ADDED)
        return jnp.tanh(x)


@pytest.mark.parametrize(
    ("strategy", "by_row"),
    [*((strategy, True) for strategy in SOME), ("vmap", False), ("map", False)],
    ids=str,
)
def test_summed_losses_and_their_gradients_are_those_of_the_loop(strategy, by_row):
    layer = Penalized(by_row)
    params = Holder(layer).init(KEY, data()[:, 0])["params"]
    wrapper = TimeDistributed(layer, strategy=strategy, sum_collections=("losses",))

    def ours(params, x):
        output, found = wrapper.apply({"params": params}, x, mutable=["losses"])
        return output.sum() + (found["losses"]["layer"]["size"] ** 2).sum()

    def expected(params, x):
        steps = [
            Holder(layer).apply({"params": params}, x[:, t], mutable=["losses"])
            for t in range(TIME)
        ]
        total = sum(found["losses"]["layer"]["size"] for _, found in steps)
        return sum(output.sum() for output, _ in steps) + (total**2).sum()

    results = [
        jax.jit(jax.value_and_grad(loss, (0, 1)))(params, data()) for loss in (ours, expected)
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (results[0][1], results[1][1])), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_nested_wrappers_sum_over_the_times_that_say_so():
    x = data(*NESTED)
    variables = TimeDistributed(TimeDistributed(Penalized())).init(KEY, x)
    params = {"params": variables["params"]}

    def sizes(outer, inner):
        wrapper = TimeDistributed(
            TimeDistributed(Penalized(), strategy="fold", sum_collections=inner),
            sum_collections=outer,
        )
        _, found = wrapper.apply(params, x, mutable=["losses"])
        return found["losses"]["layer"]["layer"]["size"]

    each, losses = sizes((), ()), ("losses",)
    assert each.shape == (2, 3, 4)
    assert_close(sizes(losses, ()), each.sum(1))
    assert_close(sizes((), losses), each.sum(2))
    assert_close(sizes(losses, losses), each.sum((1, 2)))


@pytest.mark.parametrize("strategy", ["vmap", "fold", tdjax.Fold(chunk_size=3)], ids=str)
def test_under_a_mask_nothing_of_the_padding_is_sown_or_added(strategy):
    layer = Penalized()
    x = jnp.where(REAL[..., None], data(), jnp.nan)
    params = Holder(layer).init(KEY, data()[:, 0])["params"]

    def loss(params, sums):
        wrapper = TimeDistributed(layer, strategy=strategy, sum_collections=sums)
        _, found = wrapper.apply({"params": params}, x, seq_lengths=LENGTHS, mutable=["losses"])
        return found["losses"]["layer"]["size"].sum(), found

    def of_real_rows(params):
        _, found = Holder(layer).apply({"params": params}, data()[REAL], mutable=["losses"])
        return found["losses"]["layer"]["size"].sum(), found["losses"]["layer"]["size"]

    of_real_rows = jax.jit(jax.value_and_grad(of_real_rows, has_aux=True))
    (total, by_row), expected = of_real_rows(params)
    for sums in ((), ("losses",)):
        run = jax.jit(jax.value_and_grad(functools.partial(loss, sums=sums), has_aux=True))
        (ours, found), gradient = run(params)
        np.testing.assert_allclose(ours, total, rtol=1e-5)
        assert_close(gradient, expected, atol=1e-3)
        if not sums:
            sown = found["losses"]["layer"]["size"]
            assert_close(sown[REAL], by_row)
            assert (sown[~REAL] == 0).all()


class Perturbed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = self.perturb("hidden", nn.Dense(3)(x))
        norm = self.perturb("norm", (x**2).sum(-1))
        return jnp.sin(x) * norm[:, None]


@pytest.mark.parametrize("strategy", SOME, ids=str)
def test_gradients_of_perturbations_are_those_of_the_loop(strategy):
    wrapper = TimeDistributed(Perturbed(), strategy=strategy)
    variables = jax.jit(wrapper.init)(KEY, data())
    weights = data(4, TIME, 3, seed=1)

    def by_step(variables):
        """Give every step its own slice of the perturbations."""
        steps = []
        for t in range(TIME):
            here = jax.tree.map(lambda leaf, t=t: leaf[:, t], variables["perturbations"])
            step = {"params": variables["params"], "perturbations": here}
            steps.append(Holder(Perturbed()).apply(step, data()[:, t]))
        return jnp.stack(steps, 1)

    def gradient(apply):
        return jax.jit(jax.grad(lambda variables: (apply(variables) * weights).sum()))(variables)

    ours = gradient(lambda variables: wrapper.apply(variables, data()))
    assert_close(ours, gradient(by_step), atol=1e-5)
    assert jax.tree.all(jax.tree.map(jnp.any, ours["perturbations"]))


def test_perturbations_under_a_mask_and_in_nested_wrappers():
    wrapper = TimeDistributed(Perturbed(), strategy="fold")

    def gradients(module, variables, x, **kwargs):
        return jax.jit(jax.grad(lambda v: module.apply(v, x, **kwargs).sum()))(variables)

    variables = jax.jit(wrapper.init)(KEY, data())
    gradient = gradients(wrapper, variables, data(), seq_lengths=LENGTHS)
    hidden = gradient["perturbations"]["layer"]["hidden"]
    np.testing.assert_array_equal((hidden != 0).any(-1), REAL)

    nested = TimeDistributed(wrapper, strategy="vmap")
    variables = jax.jit(nested.init)(KEY, data(*NESTED))
    gradient = gradients(nested, variables, data(*NESTED))
    flat = jax.jit(wrapper.init)(KEY, data(2, 12, FEATURES))["perturbations"]
    flat = {
        "params": {"layer": variables["params"]["layer"]["layer"]},
        "perturbations": flat,
    }
    x = data(*NESTED).reshape(2, 12, FEATURES)
    expected = gradients(wrapper, flat, x)["perturbations"]
    ours = gradient["perturbations"]["layer"]
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(2, 12, *leaf.shape[3:]), ours), expected)


class Loss(nnx.Variable):
    """An auxiliary loss."""


class NnxRich(nnx.Module):
    """The same in NNX."""

    def __init__(self, rows_only=False):
        self.dense, self.rows_only = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0)), rows_only

    def __call__(self, x):
        x = self.dense(x)
        for factor in (1, 2):
            self.sow(nnx.Intermediate, "several", factor * x)
        self.sow(nnx.Intermediate, "tree", {"a": x, "b": (x[:, 0], [x.sum(-1)])})
        self.sow(nnx.Intermediate, "flags", x > 0)
        self.sow(nnx.Intermediate, "count", 3)
        if not self.rows_only:
            self.sow(nnx.Intermediate, "mean", x.mean())
        self.sow(nnx.Intermediate, "sum", x, **ADDED)
        self.sow(nnx.Intermediate, "sum", x, **ADDED)
        self.sow(Loss, "size", (x**2).sum(-1), **ADDED)
        return jnp.tanh(self.perturb("before", x))


class NnxParent(nnx.Module):
    def __init__(self, wrap, rows_only=False):
        self.net, self.head = wrap(NnxRich(rows_only)), nnx.Linear(3, 2, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.head(self.net(x))


class NnxHolder(nnx.Module):
    """What a wrapped layer is without its wrapper."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


def captured(model, x, **kwargs):
    output, *found = nnx.capture(model, nnx.Intermediate, Loss, **kwargs)(x)
    return output, *(nnx.to_pure_dict(state) for state in found)


@pytest.mark.parametrize("strategy", ["vmap", tdjax.Fold(chunk_size=3)], ids=str)
def test_nnx_captures_what_the_loop_would(strategy):
    rows_only = isinstance(strategy, tdjax.Fold)
    wrap = functools.partial(tdjax.nnx.TimeDistributed, strategy=strategy, sum_collections=(Loss,))
    model, bare = NnxParent(wrap, rows_only), NnxParent(NnxHolder, rows_only)
    kwargs = {"method_outputs": nnx.Intermediate}
    output, found, losses = captured(model, data(), **kwargs)
    assert_no_tracers((found, losses, nnx.state(model)))
    expected = stacked([captured(bare, data()[:, t], **kwargs) for t in range(TIME)])
    assert_close((output, found), expected[:2])
    assert_close(losses, jax.tree.map(lambda leaf: leaf.sum(1), expected[2]), atol=1e-5)
    assert not nnx.state(model, (nnx.Intermediate, Loss))


def test_nnx_captures_both_times_of_nested_wrappers():
    inner = tdjax.nnx.TimeDistributed(NnxRich(), strategy="vmap")
    outer = tdjax.nnx.TimeDistributed(inner, strategy="vmap")
    x = data(*NESTED)
    _, found = nnx.capture(outer, nnx.Intermediate)(x)
    found = nnx.to_pure_dict(found)["layer"]["layer"]
    _, flat = nnx.capture(NnxRich(), nnx.Intermediate)(x.reshape(-1, FEATURES))
    flat = nnx.to_pure_dict(flat)
    for name in ("several", "tree", "flags", "sum"):
        reshaped = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), found[name])
        assert_close(reshaped, flat[name])
    assert_close(found["mean"][0], NnxRich().dense(x).mean((0, 3)))


@pytest.mark.parametrize("strategy", ["vmap", "fold"])
def test_nnx_gradients_flow_through_losses_and_perturbations(strategy):
    wrap = functools.partial(tdjax.nnx.TimeDistributed, strategy=strategy, sum_collections=(Loss,))
    model, bare = NnxParent(wrap, rows_only=True), NnxParent(NnxHolder, rows_only=True)
    x = data()

    def gradients(model, x):
        _, perturbations = nnx.capture(model, nnx.Perturbation)(x)

        def loss(model, perturbations):
            output, losses = nnx.capture(model, Loss, init=perturbations)(x)
            return (output**2).sum() + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(losses))

        by_model, by_value = nnx.grad(loss, argnums=(0, 1))(model, perturbations)
        return nnx.to_pure_dict(by_model), nnx.to_pure_dict(by_value)

    gradients = nnx.jit(gradients)
    # Both losses are sums over rows, so that the folded batch gives the loop's gradients.
    by_model, by_value = gradients(bare, x.reshape(-1, FEATURES))
    ours = gradients(model, x)
    assert_close(ours[0], by_model, atol=1e-4)
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(-1, 3), ours[1]), by_value, atol=1e-5)
