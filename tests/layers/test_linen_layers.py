"""Every kind of Linen layer, under every strategy: values and gradients are those of the loop."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from linen_layers import LAYERS, TIME
from oracle import assert_same, loop, value_and_vjp

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(7)
FOLDS = ("fold", tdjax.Fold(chunk_size=4))


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_values_and_gradients_are_those_of_the_loop(case):
    rngs = {"dropout": KEY} if case.draws else None
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(TIME))

    def plain(variables, args):
        return loop(case.step, (variables, keys, *args), (None, 0, *[1] * len(args)))

    def wrapped(strategy):
        wrapper = TimeDistributed(case.make(), strategy=strategy)
        return lambda variables, args: wrapper.apply(variables, *args, rngs=rngs, **case.kwargs)

    operands = case.variables(), case.arguments()
    ways = ("vmap", "map") if case.refused else ("vmap", "map", *FOLDS)

    @jax.jit  # one program for all of them, which compiles sooner than many
    def run(operands):
        found = {str(way): value_and_vjp(wrapped(way), operands) for way in ways}
        outputs = {way: wrapped(way)(*operands) for way in ("unroll", "auto")}
        return value_and_vjp(plain, operands), found, outputs

    expected, found, outputs = run(operands)
    assert_same(found, {str(way): expected for way in ways})
    assert_same(outputs, dict.fromkeys(outputs, expected[0]))
    if case.refused:
        for strategy in FOLDS:
            with pytest.raises(tdjax.StrategyError, match=case.refused):
                wrapped(strategy)(*operands)


class Tied(nn.Module):
    """Methods of modules, of its own and of one that it holds, over time."""

    strategy: str | None = None

    def setup(self):
        self.embed = nn.Embed(5, 6)
        if self.strategy is None:
            self.read, self.scores = self.embed, (self.score, self.embed.attend)
        else:
            self.read = TimeDistributed(self.embed, self.strategy)
            methods = self.score, self.embed.attend
            self.scores = tuple(TimeDistributed(method, self.strategy) for method in methods)

    def score(self, x):
        return self.embed.attend(jnp.tanh(x))

    def __call__(self, tokens):
        return [score(self.read(tokens)) for score in self.scores]


@pytest.mark.parametrize("strategy", ["vmap", "map", *FOLDS, "auto"], ids=str)
def test_methods_of_modules_share_their_weights(strategy):
    tokens = jnp.arange(6).reshape(3, 2) % 5
    variables = Tied().init(KEY, tokens)
    assert_same(Tied(strategy).init(KEY, tokens), variables)
    expected = loop(jax.jit(lambda tokens: Tied().apply(variables, tokens)), (tokens,))
    assert_same(Tied(strategy).apply(variables, tokens), expected)


@pytest.mark.parametrize("batch", [2, 3], ids=["as many rows as heads", "more rows than heads"])
def test_an_argument_that_steps_share_is_no_weight_of_its_size(batch):
    (case,) = (case for case in LAYERS if case.name == "attention to some")
    variables, (x, lengths) = case.variables(batch), case.arguments(batch)
    operands = variables, KEY, x, lengths[:, 0]
    expected = jax.jit(lambda *operands: loop(case.step, operands, (None, None, 1, None)))(
        *operands
    )
    wrapper = TimeDistributed(case.make(), strategy="fold", in_axes=(1, None))
    assert_same(wrapper.apply(variables, *operands[2:]), expected)
