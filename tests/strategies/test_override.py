"""`TDJAX_STRATEGY`: one strategy in the place of `auto`; and the log of what `auto` decides."""

import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
from tdjax import Auto, Fold, StrategyError, Vmap, explain, time_distributed
from tdjax.comparison.subjects.subject import subject
from tdjax.strategies.override import ignoring_override
from tdjax.tuning.tune import _decision

X = np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8) / 100


def sine(x):
    return jnp.sin(x) * 2


def center(x):
    return x - x.mean(0, keepdims=True)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("vmap", Vmap()),
        ("map", Vmap(chunk_size=1)),
        ("Fold(4, unroll)", Fold(chunk_size=4, unroll=True)),
        ("tdjax.Vmap(chunk_size=2)", Vmap(chunk_size=2)),
    ],
)
def test_it_runs_in_the_place_of_auto_and_explain_says_so(monkeypatch, text, taken):
    assert explain(sine, X).strategy == Fold()
    monkeypatch.setenv("TDJAX_STRATEGY", text)
    for options in ({}, {"strategy": "auto"}, {"strategy": Auto(mode="forward")}):
        found = explain(time_distributed(sine, **options), X)
        assert found.strategy == taken
        assert found.reasons[0] == "It was set by TDJAX_STRATEGY in the environment."
    np.testing.assert_allclose(time_distributed(sine)(X), np.sin(X) * 2, rtol=1e-6)


def test_what_is_asked_for_by_name_stays(monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "map")
    assert explain(time_distributed(sine, strategy="fold"), X).strategy == Fold()


@pytest.mark.parametrize("text", ["", "auto"])
def test_nothing_and_auto_change_nothing(monkeypatch, text):
    monkeypatch.setenv("TDJAX_STRATEGY", text)
    found = explain(sine, X)
    assert found.strategy == Fold() and "TDJAX_STRATEGY" not in found.reasons[0]


def test_another_auto_decides_by_itself(monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "Auto(memory_budget=1)")
    with pytest.warns(UserWarning, match="no strategy is sure to fit memory_budget=1"):
        time_distributed(lambda x: jnp.cumsum(jnp.sin(x), -1))(X)


@pytest.mark.parametrize("text", ["vnap", "Fold(", "Fold(rows=3)", "vmap(3)", "Fold(chunk_size=0)"])
def test_what_is_no_strategy_is_an_error_at_the_first_use_that_names_the_variable(
    monkeypatch, text
):
    monkeypatch.setenv("TDJAX_STRATEGY", text)
    made = time_distributed(sine)
    with pytest.raises(ValueError, match=r"TDJAX_STRATEGY=.* in the environment: .*unset it"):
        made(X)


def test_one_that_cannot_keep_the_meaning_is_refused_with_the_variable_s_name(monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "fold")
    with pytest.raises(StrategyError) as caught:
        time_distributed(center)(X)
    assert "fold was set by TDJAX_STRATEGY in the environment." in caught.value.__notes__


def test_what_leaves_one_way_runs_in_it(monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "map")

    def mean(x):
        return jax.lax.pmean(x, "time")

    found = time_distributed(mean, axis_name="time")(X)
    np.testing.assert_allclose(found, np.broadcast_to(X.mean(1, keepdims=True), X.shape), rtol=1e-5)
    assert explain(time_distributed(sine, pooled=True), X).strategy == Fold()


def test_a_layer_takes_its_form_where_it_has_one(monkeypatch):
    layer = tdjax.linen.TimeDistributed(nn.BatchNorm(use_running_average=False))
    variables = jax.jit(layer.init)(jax.random.key(0), X)

    def ways():
        found = explain(lambda x: layer.apply(variables, x, mutable=["batch_stats"]), X)
        return [each.strategy for each in found.layers] or [found.strategy]

    first = ways()
    monkeypatch.setenv("TDJAX_STRATEGY", "vmap")
    assert ways() == [Vmap()]
    monkeypatch.setenv("TDJAX_STRATEGY", "map")  # it cannot pool statistics
    assert ways() == first


def test_comparing_and_tuning_look_at_auto_s_own_choice(monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "map")
    with ignoring_override():
        assert _decision(subject(sine, (X,)), "forward").strategy == Fold()
    found = tdjax.compare(sine, X, strategies=("vmap", "auto"), rounds=2)
    assert found.entries[1].chose == "fold"


def test_each_decision_is_said_once_a_program(caplog):
    def doubled(x):
        return x * 2 + 1

    made = time_distributed(doubled)
    with caplog.at_level(logging.INFO, "tdjax"):
        made(X)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "tdjax"):
        explain(doubled, X)
        assert not caplog.records
        for _ in range(3):
            made(X)
        jax.jit(made)(X)
        made(X[:, :5])
    said = [record.getMessage() for record in caplog.records]
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * 2
    for line, sizes in zip(said, ("4 x 6 rows", "4 x 5 rows"), strict=True):
        assert "doubled" in line and f", {sizes}: fold. It is predicted to be" in line


def test_what_was_set_is_said_as_such(caplog, monkeypatch):
    monkeypatch.setenv("TDJAX_STRATEGY", "map")
    with caplog.at_level(logging.DEBUG, "tdjax"):
        time_distributed(lambda x: x * 3 + 1)(X)
    (record,) = caplog.records
    assert record.getMessage().endswith(": map. It was set by TDJAX_STRATEGY in the environment.")
