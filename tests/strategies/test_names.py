"""Every spelling of a strategy that tdjax prints is read back, wherever a strategy is given."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from flax import nnx

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Auto, Fold, Packed, Vmap
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.verdicts.naming import short
from tdjax.strategies import NAMES, candidates, parse

OTHERS = [
    Fold(remat=True),
    Fold(chunk_size=5, unroll=2, assume_independent=True),
    Vmap(chunk_size=3, unroll=4, remat=True),
    Packed(chunk_size=8),
    Auto(memory_budget=10**6, mode="forward", valid_fraction=0.5),
]


def spellings(strategy):
    """Return the names in tables and files, and what Python shows."""
    return {str(strategy), short(str(strategy)), repr(strategy), f"tdjax.{strategy!r}"}


@pytest.mark.parametrize("strategy", [*NAMES.values(), *OTHERS], ids=str)
def test_what_is_printed_is_read(strategy):
    assert {parse(text) for text in spellings(strategy)} == {strategy}


def test_what_auto_and_tune_choose_from_is_read():
    found = candidates(32, 64, remat=True, convolves=True)
    assert parse_strategies(", ".join(short(str(strategy)) for strategy in found)) == found


@pytest.mark.parametrize("text", ["Fold(4, unroll)", "Fold(chunk_size=4, unroll=True)"])
def test_it_is_read_everywhere(text):
    wanted, x = Fold(chunk_size=4, unroll=True), jnp.ones((2, 3, 4))
    assert tdjax.time_distributed(jnp.tanh, strategy=text).options.strategy == wanted
    wrapped = tdjax.nnx.TimeDistributed(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), strategy=text)
    assert wrapped.options.strategy == wanted
    assert "Fold(chunk_size=4, unroll=True)" in repr(
        tdjax.linen.TimeDistributed(nn.Dense(3), strategy=text)
    )
    assert tdjax.compare(jnp.tanh, x, strategies=("vmap", text), rounds=3).entries[
        1
    ].strategy == str(wanted)
    assert parse_strategies(f"vmap, {text}") == [Vmap(), wanted]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", r"strategy is 'fast', which is not known; use one of \"vmap\", \"map\", "),
        ("Fold(4", r"strategy is 'Fold\(4', which is not known"),
        ("vmap, fold", "which is not known"),
        ("", "strategy is '', which is not known"),
        ("\0", "which is not known"),
        ("fold(4)", r"'fold' takes no arguments; Vmap, Fold, Packed, Auto do"),
        ("Fold(chunks=4)", r"strategy is Fold\(chunks=4\): .*'chunks'"),
        ("Fold(4, 2, 1, 0, 0)", r"strategy is Fold\(4, 2, 1, 0, 0\): .*positional arguments"),
        ("Fold(0)", r"strategy is Fold\(0\): Fold\(chunk_size=0\) must be at least 1"),
        ("Fold('many')", r"Fold\(chunk_size='many'\) is str; it must be a positive int"),
        ("Fold(2 * 8)", r"2 \* 8 is not a number, a string, a bool or None"),
        ("Auto(mode='grad')", r'mode must be "both" or "forward"'),
    ],
)
def test_a_text_that_cannot_be_read_says_why(text, said):
    with pytest.raises(ValueError, match=said):
        tdjax.time_distributed(jnp.tanh, strategy=text)


def test_a_class_is_not_a_strategy():
    with pytest.raises(TypeError, match=r"Write tdjax\.Fold\(\)\."):
        tdjax.time_distributed(jnp.tanh, strategy=Fold)
