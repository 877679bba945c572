"""Comparing Flax modules."""

import flax.linen as nn
import pytest
from casebook import array
from flax import nnx

import tdjax

X = array(3, 4, 6)  # (batch, time, features)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


class Layers(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


def statuses(result):
    return [(entry.strategy, entry.status, entry.error) for entry in result.entries]


@pytest.mark.parametrize("make", [Net, lambda: Layers(nnx.Rngs(0))], ids=["linen", "nnx"])
def test_a_module_is_differentiated_by_its_parameters(make):
    result = tdjax.compare(make(), X, strategies=("vmap", "fold"), mode="both", rounds=5)
    assert statuses(result) == [("vmap", "ok", None), ("fold", "ok", None)] * 2
    forward, _, grad, _ = result.entries
    assert grad.flops > forward.flops


def test_training_with_its_statistics_and_dropout_agrees():
    result = tdjax.compare(
        Net(), X, strategies=("vmap", "fold"), kwargs={"train": True}, mode="grad", rounds=5
    )
    assert statuses(result) == [("vmap", "ok", None), ("fold", "ok", None)]
    assert all(entry.max_rel_error < 1e-3 for entry in result.entries)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: tdjax.linen.TimeDistributed(Net(), in_axes=0, out_axes=0, strategy="map"),
        lambda: tdjax.nnx.TimeDistributed(
            Layers(nnx.Rngs(0)), in_axes=0, out_axes=0, strategy="map"
        ),
    ],
    ids=["linen", "nnx"],
)
def test_a_wrapped_module_keeps_its_axes_and_runs_under_every_strategy(wrapped):
    result = tdjax.compare(wrapped(), X, strategies=("vmap", "unroll"), rounds=5)
    assert statuses(result) == [("vmap", "ok", None), ("unroll", "ok", None)]
    loops = tdjax.compare(wrapped(), X, strategies=("map",), rounds=5).entries[0]
    assert loops.hlo["while"] == 1
